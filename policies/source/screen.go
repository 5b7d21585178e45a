package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/evictgate/evictgate/policies"
)

var (
	// ErrBeyondLimits is the error of a screen when units could not be compiled to an end within its limits.
	ErrBeyondLimits = errors.New("beyond the limits of a compilation")
	// ErrBusy says that others are waiting for a check already.
	ErrBusy = errors.New("the check is busy with other policies")
)

// CompileUnits compiles units as one set, as Sources does, and says what is wrong with them.
func CompileUnits(units []Unit) (*policies.Set, policies.Problems) { return compileUnits(units) }

// maxScreened bounds what a screening remembers; beyond it everything is forgotten.
const maxScreened = 4096

// screening remembers what a screen said about lists of units, by their content.
type screening struct {
	mu    sync.Mutex
	ended map[[sha256.Size]byte]bool  // lists that are compiled to an end
	never map[[sha256.Size]byte]error // lists that are not within the limits
}

// contentOf identifies a list of units.
func contentOf(units []Unit) [sha256.Size]byte {
	h := sha256.New()
	write := func(data []byte) {
		_ = binary.Write(h, binary.BigEndian, int64(len(data)))
		h.Write(data)
	}
	for _, u := range units {
		write([]byte(u.Name))
		_ = binary.Write(h, binary.BigEndian, int64(len(u.Files)))
		for _, f := range u.Files {
			write([]byte(f.Name))
			_ = binary.Write(h, binary.BigEndian, f.Object)
			write(f.Data)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// known is what is remembered about a list: that it ends, or why it does not.
func (s *screening) known(units []Unit) (ends bool, never error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content := contentOf(units)
	return s.ended[content], s.never[content]
}

// remember keeps an answer of the screen. One that says nothing about the units is not kept.
func (s *screening) remember(units []Unit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil || len(s.ended)+len(s.never) >= maxScreened {
		s.ended, s.never = map[[sha256.Size]byte]bool{}, map[[sha256.Size]byte]error{}
	}
	switch {
	case err == nil:
		s.ended[contentOf(units)] = true
	case errors.Is(err, ErrBeyondLimits):
		s.never[contentOf(units)] = err
	}
}

// merging makes a set of offers, each list of units only after the screen has seen it end.
type merging struct {
	ctx    context.Context
	screen func(context.Context, []Unit) error // nil for none
	seen   *screening
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
	if ends, never := m.seen.known(units); ends || never != nil {
		return never
	}
	err := m.screen(m.ctx, units)
	m.seen.remember(units, err)
	if err != nil && !errors.Is(err, ErrBeyondLimits) {
		m.failed = err
	}
	return err
}

// compile compiles units that pass the screen. The error is that of the screen.
func (m *merging) compile(units []Unit) (*policies.Set, policies.Problems, error) {
	if err := m.passes(units); err != nil {
		return nil, nil, err
	}
	set, problems := compileUnits(units)
	return set, problems, nil
}

// merge compiles all units, or those that can be, and sets their verdicts.
func (m *merging) merge(offers []offer) *policies.Set {
	for i := range offers {
		m.leaveOutKnown(&offers[i])
	}
	accepted := acceptedOf(offers)
	set, problems, err := m.compile(unitsOf(offers, accepted))
	if err != nil {
		m.blame(offers)
		accepted = acceptedOf(offers)
		set, problems, err = m.compile(unitsOf(offers, accepted))
	}
	if err == nil && len(problems) > 0 { // most often they name the guilty: the others are taken first, all at once
		for i, o := range offers {
			if slices.ContainsFunc(problems, func(p policies.Problem) bool { return o.unit.holds(p.File) }) {
				accepted[i] = nil
			}
		}
		set, problems, err = m.compile(unitsOf(offers, accepted))
	}
	if err != nil || len(problems) > 0 {
		accepted, set = make([]*Unit, len(offers)), nil
	}
	for i := range offers {
		if accepted[i] == nil {
			set = m.judge(offers, accepted, i, set)
		}
	}
	if m.failed != nil {
		return nil
	}
	return set
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
	if _, never := m.seen.known([]Unit{o.unit}); never != nil {
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
		if _, never := m.seen.known(unitsOf(offers, acceptedOf(offers))); never != nil {
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
		if ends, _ := m.seen.known(unitsOf(offers, accepted)); ends {
			return i
		}
		if good, ok := offers[i].feed.good[offers[i].unit.Name]; ok {
			accepted[i] = &good
			if ends, _ := m.seen.known(unitsOf(offers, accepted)); ends {
				return i
			}
		}
	}
	return -1
}

// judge takes a unit in, or its last good version, or neither.
func (m *merging) judge(offers []offer, accepted []*Unit, i int, set *policies.Set) *policies.Set {
	o := &offers[i]
	if !o.verdict.Beyond {
		accepted[i] = &o.unit
		with, problems, err := m.compile(unitsOf(offers, accepted))
		switch {
		case err != nil:
			o.beyond(err)
		case len(problems) == 0:
			return with
		default:
			o.verdict.Problems = problems
			o.verdict.RightAlone = m.rightAlone(o.unit)
		}
		accepted[i] = nil
	}
	if good, ok := o.feed.good[o.unit.Name]; ok {
		accepted[i] = &good
		if with, problems, err := m.compile(unitsOf(offers, accepted)); err == nil && len(problems) == 0 {
			o.verdict.Kept = true
			return with
		}
		accepted[i] = nil
	}
	return set
}

func (m *merging) rightAlone(u Unit) bool {
	_, problems, err := m.compile([]Unit{u})
	return err == nil && len(problems) == 0
}
