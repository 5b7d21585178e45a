package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/suite"
)

// Policies prints a list of policies.
func Policies(p output.Printer, format string, list []suite.Description) error {
	if done, err := p.Structured(format, list); done {
		return err
	}
	header := []string{"NAME", "ENFORCEMENT", "DEFAULT", "EFFECTS", "TITLE"}
	if format == "wide" {
		header = []string{"NAME", "POLICY", "ENFORCEMENT", "DEFAULT", "EFFECTS", "PARAMETERS", "TITLE", "FILE"}
	}
	rows := make([][]string, len(list))
	for i, d := range list {
		rows[i] = []string{d.Name, string(d.Enforcement), strconv.FormatBool(d.Default), effectsText(d.Effects), output.OrDash(d.Title)}
		if format == "wide" {
			rows[i] = []string{d.Name, d.Policy, string(d.Enforcement), strconv.FormatBool(d.Default), effectsText(d.Effects), output.OrDash(parameterNames(d.Parameters)), output.OrDash(d.Title), d.File}
		}
	}
	return p.Table(header, rows)
}

func effectsText(effects []policies.Effect) string {
	texts := make([]string, len(effects))
	for i, e := range effects {
		texts[i] = string(e)
	}
	return strings.Join(texts, ",")
}

func parameterNames(list []suite.Parameter) string {
	var names []string
	for _, p := range list {
		if !p.Inner() {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ",")
}

// Policy is one policy as a whole.
type Policy struct {
	suite.Description
	// Example is an EvictionPolicy, for a policy of the library; empty for others.
	Example string `json:"example"`
	// Messages are what its suite expects clients to be told.
	Messages []string `json:"messages"`
}

// FindPolicy is that of a list with a name or id, as a whole.
func FindPolicy(list []suite.Description, id string) (Policy, error) {
	var names []string
	for _, d := range list {
		if d.Name == id || d.Policy == id {
			return newPolicy(d)
		}
		names = append(names, d.Name)
	}
	return Policy{}, fmt.Errorf("there is no policy %s; there are %s", id, strings.Join(names, ", "))
}

// newPolicy reads what stands beside a policy.
func newPolicy(d suite.Description) (Policy, error) {
	w := Policy{Description: d}
	tests, err := d.Suite()
	if err != nil {
		return w, err
	}
	if tests != nil {
		w.Messages = tests.Messages()
	}
	if d.InLibrary() {
		w.Example, err = d.Example(tests)
	}
	return w, err
}

// Print prints it.
func (w Policy) Print(to output.Printer, format string) error {
	p := printer{to}
	if done, err := p.Structured(format, w); done {
		return err
	}
	p.Printf("%s: %s\n", w.Name, cmp.Or(w.Title, "it has no title"))
	if w.Description.Description != "" {
		p.Printf("\n%s\n", w.Description.Description)
	}
	set := ""
	if w.Default {
		set = ", in the default set"
	}
	p.Printf("\neffects      %s\nenforcement  %s%s\nfile         %s\n", effectsText(w.Effects), w.Enforcement, set, w.File)
	if len(w.Parameters) > 0 {
		p.Printf("\nParameters\n")
		if err := p.parameters(w.Parameters); err != nil {
			return err
		}
	}
	if w.Example != "" {
		p.Printf("\nExample\n%s", indent(w.Example))
	}
	p.lines("Messages", w.Messages)
	p.lines("Reads", w.Reads)
	var related []string
	for _, r := range w.Related {
		related = append(related, strings.TrimPrefix(r.Description+": "+r.Ref, ": "))
	}
	p.lines("Related", related)
	return nil
}

func (p printer) parameters(list []suite.Parameter) error {
	rows := make([][]string, len(list))
	for i, parameter := range list {
		d := output.OrDash(parameter.DefaultText())
		if parameter.Required {
			d = "must be given"
		}
		rows[i] = []string{"  " + parameter.Name, parameter.Type, d, strings.Join(strings.Fields(parameter.Description), " ")}
	}
	return p.Table([]string{"  NAME", "TYPE", "DEFAULT", "MEANING"}, rows)
}

// lines prints a section, if there is anything in it.
func (p printer) lines(title string, lines []string) {
	if len(lines) > 0 {
		p.Printf("\n%s\n%s", title, indent(strings.Join(lines, "\n")))
	}
}

func indent(text string) string {
	return fmt.Sprintf("  %s\n", strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  "))
}
