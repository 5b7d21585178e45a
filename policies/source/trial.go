package source

import (
	"errors"

	"github.com/evictgate/evictgate/policies"
)

// Trial is a unit that is offered beside all others, as data: it can be run in another process.
type Trial struct {
	Offers []TrialOffer `json:"offers"`
	// Offered is the index of the unit.
	Offered int `json:"offered"`
}

// TrialOffer is one unit of a trial.
type TrialOffer struct {
	Source string `json:"source"`
	Unit   Unit   `json:"unit"`
	// Good is the last good version; null when there is none.
	Good *Unit `json:"good,omitempty"`
	// Right is true when the unit was right before.
	Right bool `json:"right,omitempty"`
}

// errNotMerged is the error of a trial before anything was compiled.
var errNotMerged = errors.New("the policies are not loaded yet; try again")

// Trial prepares a trial of a unit as if its source offered it now, in the place of one with the same name,
// beside what the sources offered when they were compiled last. What could not be compiled within the limits
// then is left out.
func (s *Sources) Trial(source string, unit Unit) (Trial, error) {
	merged := s.merged.Load()
	if merged == nil {
		return Trial{}, errNotMerged
	}
	t := Trial{Offered: -1}
	place := func() {
		if t.Offered < 0 {
			t.Offered = len(t.Offers)
			t.Offers = append(t.Offers, TrialOffer{Source: source, Unit: unit})
		}
	}
	for _, f := range merged.feeds {
		for _, o := range merged.offers {
			switch {
			case o.feed.name != f.name:
			case f.name == source && o.unit.Name == unit.Name:
				place()
			default:
				t.add(o)
			}
		}
		if f.name == source {
			place()
		}
	}
	return t, nil
}

// Passed remembers that a trial was compiled to an end within the limits of the screen, so that its units need not be
// screened when they are offered.
func (s *Sources) Passed(t Trial) { s.seen.screen(t.Units(), nil) }

// add adds a unit as it serves, or as it was offered when it does not.
func (t *Trial) add(o offer) {
	good, kept := o.feed.good[o.unit.Name]
	added := TrialOffer{Source: o.feed.name, Unit: o.unit, Right: len(o.verdict.Problems) == 0}
	switch {
	case o.verdict.Beyond && !kept:
		return
	case o.verdict.Beyond:
		added.Unit = good
	case kept && !added.Right:
		added.Good = &good
	}
	t.Offers = append(t.Offers, added)
}

// Units are the units of the trial.
func (t Trial) Units() []Unit {
	units := make([]Unit, len(t.Offers))
	for i, o := range t.Offers {
		units[i] = o.Unit
	}
	return units
}

// Compile makes the set that there would be, and says what would be wrong with the offered unit, or with others because
// of it.
func (t Trial) Compile() (*policies.Set, policies.Problems) {
	feeds := map[string]*feed{}
	var before, after []offer
	for i, o := range t.Offers {
		f := feeds[o.Source]
		if f == nil {
			f = &feed{name: o.Source, good: map[string]Unit{}}
			feeds[o.Source] = f
		}
		if o.Good != nil {
			f.good[o.Unit.Name] = *o.Good
		}
		after = append(after, offer{feed: f, unit: o.Unit})
		if i != t.Offered && o.Right {
			before = append(before, offer{feed: f, unit: o.Unit})
		}
	}
	set := mergeOffers(after)
	offered := t.Offers[t.Offered]
	return set, compareOffers(before, after, offered.Source, offered.Unit.Name)
}
