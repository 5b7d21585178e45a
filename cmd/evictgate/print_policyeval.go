package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/evictgate/evictgate/policies/suite"
)

// evaluations prints decisions: a block for each pod, or what the policies are given.
func (p printer) evaluations(f evalFlags, r evalReport) error {
	if done, err := p.structured(f.format, r); done {
		return err
	}
	for i, e := range r.Pods {
		if f.input {
			if err := p.input(e.Input); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			p.printf("\n")
		}
		p.decision(e)
		if f.explain {
			p.explanations(e.Explanations)
		}
	}
	return nil
}

func (p printer) input(raw json.RawMessage) error {
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return err
	}
	p.printf("%s\n", indented.Bytes())
	return nil
}

func (p printer) decision(e evaluation) {
	d := e.Decision
	p.printf("%s/%s  %s %d\n", e.Namespace, e.Pod, d.Outcome, d.Code)
	if d.Message != "" {
		p.printf("  message    %s\n", d.Message)
	}
	for _, v := range d.Violations {
		p.printf("  violation  %s (%s) %s: %s\n", v.Policy, v.Enforcement, v.Effect, v.Reason)
	}
	for _, failure := range d.Failures {
		p.printf("  failure    %s (%s): %s\n", failure.Policy, failure.Enforcement, failure.Error)
	}
	for _, w := range d.Warnings {
		p.printf("  warning    %s\n", w)
	}
}

func (p printer) explanations(list []suite.Explanation) {
	for _, e := range list {
		p.printf("  %s (%s)  %s\n", e.Policy, e.Enforcement, firing(e))
		for _, r := range e.Rules {
			p.rule(r)
		}
	}
}

func firing(e suite.Explanation) string {
	switch {
	case e.Excluded != "":
		return "was not asked: " + e.Excluded
	case e.Fired():
		return "fired"
	}
	return "did not fire"
}

func (p printer) rule(r suite.RuleExplanation) {
	for _, v := range r.Violations {
		p.printf("    %-5s  %s  fired: %s\n", r.Effect, r.Place, v.Reason)
	}
	switch {
	case r.Error != "":
		p.printf("    %-5s  %s  failed: %s\n", r.Effect, r.Place, r.Error)
	case r.Unmet != nil:
		p.unmet(fmt.Sprintf("    %-5s  ", r.Effect), "           ", r.Unmet)
	}
}

// unmet prints an expression, and below it those of the rules that it asks.
func (p printer) unmet(head, indent string, u *suite.Unmet) {
	p.printf("%s%s  %s", head, u.Place, u.Expression)
	if u.Why != "" {
		p.printf("   %s", u.Why)
	}
	p.printf("\n")
	for i := range u.Because {
		p.unmet(indent+"since ", indent+"  ", &u.Because[i])
	}
}
