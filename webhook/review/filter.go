// Package review is the language in which people ask what was decided: its filters and times mean the same on the command
// line and in a URL.
package review

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

const (
	// DefaultSince is from when on decisions are looked at.
	DefaultSince = "24h"
	// DefaultTried is how long ago the last try of a stuck pod may be: kubectl drain tries every 5 s, an autoscaler may
	// take minutes.
	DefaultTried = "15m"
)

// Outcomes are those of a decision, in the order in which they are shown.
var Outcomes = []policies.Outcome{policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided}

// Field is one thing that a filter can ask for.
type Field struct {
	// Name is that of the flag, and of the parameter of a URL with _ in place of -.
	Name string
	// Label and Hint stand at the field of a form.
	Label, Hint string
	// Help says what is chosen, and Default what a list takes when nothing is asked.
	Help, Default string
	// Options are all values that there are; nil where any text will do.
	Options []string
	// IsSwitch is set where the values are true and false.
	IsSwitch bool

	set func(*store.Filter, Clock, string) error
}

// Fields are all that a filter can ask for, in the order in which they are shown.
var Fields = []Field{
	{Name: "since", Label: "Since", Hint: DefaultSince, Default: DefaultSince, Help: "from this time on: " + TimeForms, set: func(f *store.Filter, c Clock, text string) (err error) {
		f.Since, err = c.ReadTime(text)
		return err
	}},
	{Name: "until", Label: "Until", Hint: "now", Help: "before this time; default: now", set: func(f *store.Filter, c Clock, text string) (err error) {
		f.Until, err = c.ReadTime(text)
		return err
	}},
	choice("outcome", "Outcome", "with this outcome", Outcomes, func(f *store.Filter) *policies.Outcome { return &f.Outcome }),
	choice("fate", "Fate", "episodes with this end", record.Fates, func(f *store.Filter) *record.Fate { return &f.Fate }),
	text("namespace", "Namespace", "", "in this namespace", func(f *store.Filter) *string { return &f.Namespace }),
	text("pod", "Pod", "name or UID", "of this pod: its name or UID", func(f *store.Filter) *string { return &f.Pod }),
	text("workload", "Workload", "name or Kind/name", "of this workload: its name, or Kind/name", func(f *store.Filter) *string { return &f.Workload }),
	text("node", "Node", "", "on this node", func(f *store.Filter) *string { return &f.Node }),
	text("evictor", "Evictor", "such as karpenter", "by this kind of evictor, such as karpenter or user", func(f *store.Filter) *string { return &f.Evictor }),
	text("user", "User", "", "by this user", func(f *store.Filter) *string { return &f.User }),
	text("policy", "Policy", "", "refused, warned of or audited by this policy", func(f *store.Filter) *string { return &f.Policy }),
	text("budget", "Budget", "name or namespace/name", "refused by this budget: its name, or namespace/name", func(f *store.Filter) *string { return &f.Budget }),
	text("episode", "Episode", "pod UID", "of this episode: the pod's UID, or namespace/name where none is known", func(f *store.Filter) *string { return &f.Episode }),
	{Name: "dry-runs", Label: "With dry runs", IsSwitch: true, Help: "dry runs, too", set: func(f *store.Filter, _ Clock, text string) (err error) {
		if f.DryRuns, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("invalid value %q: expected true or false", text)
		}
		return err
	}},
}

func text(name, label, hint, help string, of func(*store.Filter) *string) Field {
	return Field{Name: name, Label: label, Hint: hint, Help: help, set: func(f *store.Filter, _ Clock, text string) error {
		*of(f) = text
		return nil
	}}
}

func choice[T ~string](name, label, help string, options []T, of func(*store.Filter) *T) Field {
	names := make([]string, len(options))
	for i, o := range options {
		names[i] = string(o)
	}
	expected := strings.Join(names, ", ")
	return Field{Name: name, Label: label, Help: help + ": " + expected, Options: names, set: func(f *store.Filter, _ Clock, text string) error {
		if *of(f) = T(text); !slices.Contains(names, text) {
			return fmt.Errorf("invalid value %q: expected one of %s", text, expected)
		}
		return nil
	}}
}

// Parameter is the field's name in a URL.
func (f *Field) Parameter() string { return strings.ReplaceAll(f.Name, "-", "_") }

// Asked are the texts of a filter, by the field's Name. What is missing or empty is not asked.
type Asked map[string]string

// Filter reads what is asked. An error names a field as title writes it.
func (a Asked) Filter(c Clock, title func(name string) string) (store.Filter, error) {
	var filter store.Filter
	for _, f := range Fields {
		text := strings.TrimSpace(a[f.Name])
		if text == "" {
			continue
		}
		if err := f.set(&filter, c, text); err != nil {
			return filter, fmt.Errorf("%s: %w", title(f.Name), err)
		}
	}
	if !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, fmt.Errorf("%s is not after %s", title("until"), title("since"))
	}
	return filter, nil
}
