package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/suite"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// policies prints a list of policies.
func (p printer) policies(format string, list []suite.Description) error {
	if done, err := p.structured(format, list); done {
		return err
	}
	header := []string{"NAME", "ENFORCEMENT", "DEFAULT", "EFFECTS", "TITLE"}
	if format == "wide" {
		header = []string{"NAME", "POLICY", "ENFORCEMENT", "DEFAULT", "EFFECTS", "PARAMETERS", "TITLE", "FILE"}
	}
	rows := make([][]string, len(list))
	for i, d := range list {
		rows[i] = []string{d.Name, string(d.Enforcement), strconv.FormatBool(d.Default), effectsText(d.Effects), render.OrDash(d.Title)}
		if format == "wide" {
			rows[i] = []string{d.Name, d.Policy, string(d.Enforcement), strconv.FormatBool(d.Default), effectsText(d.Effects), render.OrDash(parameterNames(d.Parameters)), render.OrDash(d.Title), d.File}
		}
	}
	return p.table(header, rows)
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

// policy prints one policy whole.
func (p printer) policy(format string, w wholePolicy) error {
	if done, err := p.structured(format, w); done {
		return err
	}
	p.printf("%s: %s\n", w.Name, cmp.Or(w.Title, "it has no title"))
	if w.Description.Description != "" {
		p.printf("\n%s\n", w.Description.Description)
	}
	set := ""
	if w.Default {
		set = ", in the default set"
	}
	p.printf("\neffects      %s\nenforcement  %s%s\nfile         %s\n", effectsText(w.Effects), w.Enforcement, set, w.File)
	if len(w.Parameters) > 0 {
		p.printf("\nParameters\n")
		if err := p.parameters(w.Parameters); err != nil {
			return err
		}
	}
	if w.Example != "" {
		p.printf("\nExample\n%s", indent(w.Example))
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
		d := render.OrDash(parameter.DefaultText())
		if parameter.Required {
			d = "must be given"
		}
		rows[i] = []string{"  " + parameter.Name, parameter.Type, d, strings.Join(strings.Fields(parameter.Description), " ")}
	}
	return p.table([]string{"  NAME", "TYPE", "DEFAULT", "MEANING"}, rows)
}

// lines prints a section, if there is anything in it.
func (p printer) lines(title string, lines []string) {
	if len(lines) > 0 {
		p.printf("\n%s\n%s", title, indent(strings.Join(lines, "\n")))
	}
}

func indent(text string) string {
	return fmt.Sprintf("  %s\n", strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  "))
}
