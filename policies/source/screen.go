package source

import (
	"context"
	"errors"
	"slices"

	"github.com/evictgate/evictgate/policies"
)

var (
	// ErrBeyondLimits is the error of a screen when units could not be compiled to an end within its limits.
	ErrBeyondLimits = errors.New("beyond the limits of a compilation")
	// ErrBusy says that others are waiting for a check already.
	ErrBusy = errors.New("the check is busy with other policies")
)

// merging makes a set of offers, each list of units only after the screen has seen it end.
type merging struct {
	ctx    context.Context
	screen func(context.Context, []Unit) error // nil for none
	seen   *memory
	// failed is an error of the screen that says nothing about the units; there is no set then.
	failed error
}

// passes screens a list of units. The error is about the units, or m.failed.
func (m *merging) passes(units []Unit) error {
	if m.failed != nil {
		return m.failed
	}
	if m.screen == nil || !slices.ContainsFunc(units, func(u Unit) bool { return len(u.Files) > 0 }) {
		return nil // what is embedded is known
	}
	if ends, never := m.seen.screened(units); ends || never != nil {
		return never
	}
	err := m.screen(m.ctx, units)
	m.seen.screen(units, err)
	if err != nil && !errors.Is(err, ErrBeyondLimits) {
		m.failed = err
	}
	return err
}

// problems says what is wrong with units as one set, once they pass the screen. The error is that of the screen.
func (m *merging) problems(units []Unit) (policies.Problems, error) {
	if err := m.passes(units); err != nil {
		return nil, err
	}
	return m.seen.problems(units, true), nil
}

// merge compiles all units, or those that can be, and sets their verdicts.
func (m *merging) merge(offers []offer) *policies.Set {
	for i := range offers {
		m.leaveOutKnown(&offers[i])
	}
	accepted := acceptedOf(offers)
	problems, err := m.problems(unitsOf(offers, accepted))
	if err != nil {
		m.blame(offers)
		accepted = acceptedOf(offers)
		problems, err = m.problems(unitsOf(offers, accepted))
	}
	if err == nil && len(problems) > 0 { // most often they name the guilty: the others are taken first, all at once
		for i, o := range offers {
			if slices.ContainsFunc(problems, func(p policies.Problem) bool { return o.unit.holds(p.File) }) {
				accepted[i] = nil
			}
		}
		problems, err = m.problems(unitsOf(offers, accepted))
	}
	if err != nil || len(problems) > 0 {
		accepted = make([]*Unit, len(offers))
	}
	for i := range offers {
		if accepted[i] == nil {
			m.judge(offers, accepted, i)
		}
	}
	if m.failed != nil {
		return nil
	}
	return m.seen.set(unitsOf(offers, accepted))
}

// acceptedOf are the units that are not known to be beyond the limits.
func acceptedOf(offers []offer) []*Unit {
	accepted := make([]*Unit, len(offers))
	for i := range offers {
		if !offers[i].verdict.Beyond {
			accepted[i] = &offers[i].unit
		}
	}
	return accepted
}

func (m *merging) leaveOutKnown(o *offer) {
	if m.screen == nil {
		return
	}
	if _, never := m.seen.screened([]Unit{o.unit}); never != nil {
		o.beyond(never)
	}
}

// beyond leaves a unit out that cannot be compiled to an end.
func (o *offer) beyond(why error) {
	o.verdict.Beyond = true
	o.verdict.Problems = policies.Problems{{File: o.unit.Name, Message: why.Error()}}
}

// blame finds the units for which a list could not be compiled to an end. When all others are known to be
// right, it is the one that is not; else each is compiled alone.
func (m *merging) blame(offers []offer) {
	if i := m.newcomer(offers); i >= 0 {
		if _, never := m.seen.screened(unitsOf(offers, acceptedOf(offers))); never != nil {
			offers[i].beyond(never)
			return
		}
	}
	for i := range offers {
		if err := m.passes([]Unit{offers[i].unit}); err != nil && m.failed == nil {
			offers[i].beyond(err)
		}
	}
}

// newcomer is the one unit without which, or with whose last good version, the others are known to end; -1
// when there is none.
func (m *merging) newcomer(offers []offer) int {
	for i := range offers {
		accepted := acceptedOf(offers)
		if accepted[i] == nil {
			continue
		}
		accepted[i] = nil
		if ends, _ := m.seen.screened(unitsOf(offers, accepted)); ends {
			return i
		}
		if good, ok := offers[i].feed.good[offers[i].unit.Name]; ok {
			accepted[i] = &good
			if ends, _ := m.seen.screened(unitsOf(offers, accepted)); ends {
				return i
			}
		}
	}
	return -1
}

// judge takes a unit in, or its last good version, or neither.
func (m *merging) judge(offers []offer, accepted []*Unit, i int) {
	o := &offers[i]
	if !o.verdict.Beyond {
		accepted[i] = &o.unit
		problems, err := m.problems(unitsOf(offers, accepted))
		switch {
		case err != nil:
			o.beyond(err)
		case len(problems) == 0:
			return
		default:
			o.verdict.Problems = problems
			o.verdict.RightAlone = m.rightAlone(o.unit)
		}
		accepted[i] = nil
	}
	if good, ok := o.feed.good[o.unit.Name]; ok {
		accepted[i] = &good
		if problems, err := m.problems(unitsOf(offers, accepted)); err == nil && len(problems) == 0 {
			o.verdict.Kept = true
			return
		}
		accepted[i] = nil
	}
}

func (m *merging) rightAlone(u Unit) bool {
	alone := []Unit{u}
	return m.passes(alone) == nil && len(m.seen.problems(alone, false)) == 0
}
