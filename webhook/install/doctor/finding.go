package doctor

import (
	"fmt"
	"slices"
)

// Status is how a check ended.
type Status string

const (
	// OK: it is as it should be.
	OK Status = "ok"
	// Note: it works, and is worth knowing.
	Note Status = "note"
	// Warning: it works now, and will not at some time or in some case.
	Warning Status = "warning"
	// Problem: evictions are not decided, or are blocked.
	Problem Status = "problem"
	// NotChecked: what the check looks at could not be read.
	NotChecked Status = "not checked"
)

// Finding is what one check has to say.
type Finding struct {
	// Check names what was looked at; the names are stable.
	Check  string `json:"check"`
	Status Status `json:"status"`
	// Text is what was found, in one line.
	Text string `json:"text"`
	// Cure is what to do about it; empty when there is nothing to do.
	Cure string `json:"cure,omitempty"`
	// Command does or begins the cure, where there is one.
	Command string `json:"command,omitempty"`
}

// Bad reports whether something is to be fixed.
func (f Finding) Bad() bool { return f.Status == Warning || f.Status == Problem }

// Count is how many findings have a status.
func Count(findings []Finding, status Status) int {
	n := 0
	for _, f := range findings {
		if f.Status == status {
			n++
		}
	}
	return n
}

// Bad reports whether something is to be fixed.
func Bad(findings []Finding) bool { return slices.ContainsFunc(findings, Finding.Bad) }

// findings collects what checks find.
type findings []Finding

func (l *findings) add(check string, status Status, format string, args ...any) *Finding {
	*l = append(*l, Finding{Check: check, Status: status, Text: fmt.Sprintf(format, args...)})
	return &(*l)[len(*l)-1]
}

func (l *findings) ok(check, format string, args ...any) { l.add(check, OK, format, args...) }

func (l *findings) note(check, format string, args ...any) { l.add(check, Note, format, args...) }

func (l *findings) warn(check, format string, args ...any) *Finding {
	return l.add(check, Warning, format, args...)
}

func (l *findings) problem(check, format string, args ...any) *Finding {
	return l.add(check, Problem, format, args...)
}

func (l *findings) skip(check, format string, args ...any) {
	l.add(check, NotChecked, format, args...)
}

// cure says what to do.
func (f *Finding) cure(format string, args ...any) *Finding {
	f.Cure = fmt.Sprintf(format, args...)
	return f
}

// run says by which command.
func (f *Finding) run(format string, args ...any) {
	f.Command = fmt.Sprintf(format, args...)
}
