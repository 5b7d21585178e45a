package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/suite"
)

// Evaluations are decisions about pods.
type Evaluations struct {
	Revision string    `json:"revision"`
	At       time.Time `json:"at"`
	User     string    `json:"user"`
	// Evictor is the kind of client that the user is.
	Evictor string       `json:"evictor"`
	Pods    []Evaluation `json:"pods"`
}

// Evaluation is the decision about one pod.
type Evaluation struct {
	Namespace string             `json:"namespace"`
	Pod       string             `json:"pod"`
	Decision  *policies.Decision `json:"decision"`
	// Input and Explanations are null when they were not asked for.
	Input        json.RawMessage     `json:"input"`
	Explanations []suite.Explanation `json:"explanations"`
}

// Refused reports whether an eviction would be refused.
func (r Evaluations) Refused() bool {
	return slices.ContainsFunc(r.Pods, func(e Evaluation) bool { return !e.Decision.Allowed() })
}

// Parts are what else is printed of evaluations.
type Parts struct {
	// Input is what the policies are given, instead of the decision.
	Input bool
	// Explanations say what each rule found.
	Explanations bool
}

// Print prints decisions: a block for each pod, or what the policies are given.
func (r Evaluations) Print(to output.Printer, format string, parts Parts) error {
	p := printer{to}
	if done, err := p.Structured(format, r); done {
		return err
	}
	for i, e := range r.Pods {
		if parts.Input {
			if err := p.input(e.Input); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			p.Printf("\n")
		}
		p.decision(e)
		if parts.Explanations {
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
	p.Printf("%s\n", indented.Bytes())
	return nil
}

func (p printer) decision(e Evaluation) {
	d := e.Decision
	p.Printf("%s/%s  %s %d\n", e.Namespace, e.Pod, d.Outcome, d.Code)
	if d.Message != "" {
		p.Printf("  message    %s\n", d.Message)
	}
	for _, v := range d.Violations {
		p.Printf("  violation  %s (%s) %s: %s\n", v.Policy, v.Enforcement, v.Effect, v.Reason)
	}
	for _, failure := range d.Failures {
		p.Printf("  failure    %s (%s): %s\n", failure.Policy, failure.Enforcement, failure.Error)
	}
	for _, w := range d.Warnings {
		p.Printf("  warning    %s\n", w)
	}
}

func (p printer) explanations(list []suite.Explanation) {
	for _, e := range list {
		p.Printf("  %s (%s)  %s\n", e.Policy, e.Enforcement, firing(e))
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
		p.Printf("    %-5s  %s  fired: %s\n", r.Effect, r.Place, v.Reason)
	}
	switch {
	case r.Error != "":
		p.Printf("    %-5s  %s  failed: %s\n", r.Effect, r.Place, r.Error)
	case r.Unmet != nil:
		p.unmet(fmt.Sprintf("    %-5s  ", r.Effect), "           ", r.Unmet)
	}
}

// unmet prints an expression, and below it those of the rules that it asks.
func (p printer) unmet(head, indent string, u *suite.Unmet) {
	p.Printf("%s%s  %s", head, u.Place, u.Expression)
	if u.Why != "" {
		p.Printf("   %s", u.Why)
	}
	p.Printf("\n")
	for i := range u.Because {
		p.unmet(indent+"since ", indent+"  ", &u.Because[i])
	}
}
