package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
)

// offered is a unit of one file, named after it.
func offered(f policies.File) Unit { return Unit{Name: f.Name, Files: []policies.File{f}} }

// sourcesOf offers, source by source, and loads once.
func sourcesOf(t *testing.T, names ...string) (*Sources, func(source string, files ...policies.File) Change) {
	t.Helper()
	s := New()
	var last Change
	s.OnChange = func(c Change) { last = c }
	for _, name := range names {
		s.Add(name, false)
		s.Put(name, nil, nil)
	}
	return s, func(source string, files ...policies.File) Change {
		t.Helper()
		units := make([]Unit, len(files))
		for i, f := range files {
			units[i] = offered(f)
		}
		s.Put(source, units, nil)
		s.load(t.Context())
		return last
	}
}

// verdictLines are the verdicts that are not good, in words.
func verdictLines(c Change) []string {
	var lines []string
	for source, units := range c.Verdicts {
		for name, v := range units {
			for _, p := range v.Problems {
				lines = append(lines, fmt.Sprintf("%s %s kept=%t: %s", source, name, v.Kept, p))
			}
		}
	}
	return lines
}

func TestSeveralSourcesMakeOneSet(t *testing.T) {
	_, put := sourcesOf(t, "dir", "cluster")
	put("dir", policy("a", `deny contains "a"`))
	c := put("cluster", policy("b", `deny contains "b"`), bind("freeze", "library: do_not_disrupt"))
	if got := ids(c.Set); got != "a b freeze" || !c.Swapped || len(verdictLines(c)) > 0 {
		t.Errorf("%q serves, swapped %t, %q", got, c.Swapped, verdictLines(c))
	}
}

func TestABrokenUnitIsLeftOutAlone(t *testing.T) {
	_, put := sourcesOf(t, "cluster")
	c := put("cluster", policy("a", `deny contains "a"`), policy("b", `deny contains input.bad`), policy("c", `deny contains "c"`))
	if got := ids(c.Set); got != "a c" {
		t.Errorf("%q serves", got)
	}
	lines := verdictLines(c)
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "cluster b.rego kept=false: b.rego:3:21: ") {
		t.Errorf("%q", lines)
	}
}

func TestAUnitThatTurnsBadIsKeptAsItWas(t *testing.T) {
	s, put := sourcesOf(t, "cluster")
	good := put("cluster", policy("a", `deny contains "one"`), policy("b", `deny contains "b"`)).Set
	c := put("cluster", policy("a", `deny contains input.bad`), policy("b", `deny contains "b"`))
	if c.Set.Revision() != good.Revision() || c.Swapped {
		t.Errorf("another revision serves: %s", ids(c.Set))
	}
	if lines := verdictLines(c); len(lines) != 1 || !strings.Contains(lines[0], "a.rego kept=true: a.rego:3:21: ") {
		t.Errorf("%q", lines)
	}
	if c = put("cluster", policy("a", `deny contains input.bad`), policy("b", `deny contains "B"`)); !c.Swapped || ids(c.Set) != "a b" {
		t.Errorf("the others do not go on: %q, swapped %t", ids(c.Set), c.Swapped)
	}
	if c = put("cluster", policy("b", `deny contains "B"`)); ids(c.Set) != "b" {
		t.Errorf("what is offered no more goes on serving: %q", ids(c.Set))
	}
	if c = put("cluster", policy("a", `deny contains input.bad`), policy("b", `deny contains "B"`)); ids(c.Set) != "b" {
		t.Errorf("what was taken away comes back: %q", ids(c.Set))
	}
	if s.Current() != c.Set {
		t.Error("the set that is told is not the one that serves")
	}
}

func TestTheEarlierSourceHasPrecedence(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second policies.File
		want          string
	}{
		"two policies of one id":   {policy("x", `deny contains "1"`), policies.File{Name: "other.rego", Data: policy("x", `deny contains "2"`).Data}, "x"},
		"two bindings of one name": {bind("x", "library: do_not_disrupt"), policies.File{Name: "a.yaml", Data: bind("x", "library: freeze_window\nparameters: {windows: []}").Data}, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, put := sourcesOf(t, "dir", "cluster")
			put("cluster", tt.second)
			c := put("dir", tt.first)
			if got := ids(c.Set); got != tt.want || c.Set.Policies()[0].File != tt.first.Name {
				t.Errorf("%q of %s serves", got, c.Set.Policies()[0].File)
			}
			if lines := verdictLines(c); len(lines) != 1 || !strings.HasPrefix(lines[0], "cluster ") || !strings.Contains(lines[0], tt.first.Name) {
				t.Errorf("the conflict is not told at the later source, or does not name the other: %q", lines)
			}
		})
	}
}

func TestTheDefaultSetStandsBesideBindings(t *testing.T) {
	s := New()
	var last Change
	s.OnChange = func(c Change) { last = c }
	s.Add(Default, true)
	s.Add("cluster", false)
	s.Put("cluster", []Unit{offered(bind("strict", "library: require_budget\nenforcement: Enforce")), offered(policy("own", `deny contains "x"`))}, nil)
	s.load(t.Context())
	got := map[string]string{}
	for _, p := range last.Set.Policies() {
		got[p.Name] = p.Policy + " " + string(p.Enforcement)
	}
	want := map[string]string{
		"do_not_disrupt": "do_not_disrupt enforce", "impossible_budget": "impossible_budget warn",
		"last_ready_replica": "last_ready_replica warn", "strict": "require_budget enforce", "own": "own enforce",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNothingServesBeforeEverySourceHasDelivered(t *testing.T) {
	s := New()
	s.Add("dir", true)
	s.Add("bundle", true)
	s.Put("dir", []Unit{offered(policy("a", `deny contains "a"`))}, nil)
	s.load(t.Context())
	if s.Current() != nil || s.Ready() == nil || !strings.Contains(s.Ready().Error(), "waiting for the policies of bundle") {
		t.Fatalf("%v serves; ready: %v", s.Current(), s.Ready())
	}
	s.Put("bundle", nil, errors.New("bundle: connection refused"))
	s.load(t.Context())
	if s.Current() != nil || !strings.Contains(s.Ready().Error(), "connection refused") {
		t.Fatalf("%v serves; ready: %v", s.Current(), s.Ready())
	}
	s.Put("bundle", []Unit{offered(policy("b", `deny contains input.bad`))}, nil)
	s.load(t.Context())
	if s.Current() != nil || !strings.Contains(s.Ready().Error(), "b.rego:3:21") {
		t.Fatalf("an essential source that was never good: %v serves; ready: %v", s.Current(), s.Ready())
	}
	s.Put("bundle", []Unit{offered(policy("b", `deny contains "b"`))}, nil)
	s.load(t.Context())
	if s.Current() == nil || ids(s.Current()) != "a b" || s.Ready() != nil {
		t.Fatalf("%v serves; ready: %v", s.Current(), s.Ready())
	}
	s.Put("bundle", nil, errors.New("bundle: gone"))
	s.load(t.Context())
	if ids(s.Current()) != "a b" || s.Ready() != nil {
		t.Errorf("a source that goes away takes its policies with it: %s, ready: %v", ids(s.Current()), s.Ready())
	}
}

func TestASetServesOnlyOnceItsInputIsKnown(t *testing.T) {
	s, put := sourcesOf(t, "cluster")
	var fail error
	s.Prepare = func(_ context.Context, needs *policies.Needs) error {
		if needs.Reads("claims") {
			return fail
		}
		return nil
	}
	fail = errors.New("persistentvolumeclaims could not be listed")
	put("cluster", policy("a", `deny contains "a"`))
	c := put("cluster", policy("b", `deny contains "b" if count(input.claims) > 1`))
	if ids(s.Current()) != "a" || c.Err == nil || !strings.Contains(c.Err.Error(), "could not be listed") {
		t.Fatalf("%s serves, told %v", ids(s.Current()), c.Err)
	}
	if !s.load(t.Context()) {
		t.Error("it is not tried again")
	}
	fail = nil
	if s.load(t.Context()) || ids(s.Current()) != "b" {
		t.Errorf("%s serves", ids(s.Current()))
	}
}

func TestTry(t *testing.T) {
	s, put := sourcesOf(t, "dir", "cluster")
	put("dir", policy("a", `deny contains "a"`))
	put("cluster", policy("b", `deny contains "b"`), policy("broken", `deny contains input.bad`))
	for name, tt := range map[string]struct {
		source string
		unit   Unit
		want   string // empty: it could be offered
	}{
		"a good unit":                        {"cluster", offered(policy("c", `deny contains "c"`)), ""},
		"a good new version":                 {"cluster", offered(policy("b", `deny contains "B"`)), ""},
		"a broken one is fixed":              {"cluster", offered(policy("broken", `deny contains "x"`)), ""},
		"a broken unit":                      {"cluster", offered(policy("c", `deny contains input.bda`)), "c.rego:3:21: "},
		"a broken new version":               {"cluster", offered(policy("b", `deny contains input.bda`)), "b.rego:3:21: "},
		"the id of an earlier source":        {"cluster", Unit{Name: "x", Files: []policies.File{{Name: "x.rego", Data: policy("a", `deny contains "c"`).Data}}}, "defined in a.rego, too"},
		"the id of a unit of a later source": {"dir", Unit{Name: "x", Files: []policies.File{{Name: "x.rego", Data: policy("b", `deny contains "c"`).Data}}}, "it cannot stand beside b.rego of cluster: "},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.Current().Revision()
			problems := s.Try(tt.source, tt.unit)
			if tt.want == "" && len(problems) > 0 || tt.want != "" && !strings.Contains(problems.Error(), tt.want) {
				t.Errorf("problems %q, want %q", problems.Error(), tt.want)
			}
			if s.load(t.Context()); s.Current().Revision() != before {
				t.Error("a try changes what serves")
			}
		})
	}
}

// However the units are broken, exactly the broken ones are left out.
func TestOnlyTheBrokenAreLeftOut(t *testing.T) {
	for mask := range 1 << 5 {
		_, put := sourcesOf(t, "cluster")
		var files []policies.File
		want := []string{}
		for i, id := range []string{"a", "b", "c", "d", "e"} {
			if mask&(1<<i) != 0 {
				files = append(files, policy(id, `deny contains input.bad`))
				continue
			}
			files = append(files, policy(id, `deny contains "fine"`))
			want = append(want, id)
		}
		c := put("cluster", files...)
		if got := ids(c.Set); got != strings.Join(want, " ") || len(verdictLines(c)) != 5-len(want) {
			t.Errorf("%05b: %q serves, want %q; %q", mask, got, want, verdictLines(c))
		}
	}
}

func TestSettleWaitsForTheChange(t *testing.T) {
	s := New()
	told := 0
	s.OnChange = func(Change) { told++ }
	s.Add("cluster", false)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Start(ctx) }()
	for i := range 20 {
		s.Put("cluster", []Unit{offered(policy("a", fmt.Sprintf("deny contains \"%d\"", i)))}, nil)
		s.Settle(ctx)
		if s.Current() == nil || told != i+1 {
			t.Fatalf("after %d changes %d are told", i+1, told)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.Put("cluster", nil, nil)
	s.Settle(ctx) // nobody loads any more: it ends with its context
}

func TestWhatHasDeliveredServesFromTheBeginning(t *testing.T) {
	known := func(_ context.Context, needs *policies.Needs) error {
		if needs.Reads("claims") {
			return errors.New("not known yet")
		}
		return nil
	}
	for name, tt := range map[string]struct {
		rule   string
		waits  bool
		serves bool
	}{
		"a directory":                          {`deny contains "a"`, false, true},
		"a directory, beside a bundle to come": {`deny contains "a"`, true, false},
		"what reads something not known yet":   {`deny contains "a" if count(input.claims) > 1`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			s.Prepare = known
			s.Add("dir", true)
			s.Put("dir", []Unit{offered(policy("a", tt.rule))}, nil)
			if tt.waits {
				s.Add("bundle", true)
			}
			if err := s.Begin(t.Context()); err != nil || (s.Current() != nil) != tt.serves {
				t.Errorf("%v, serves %t, want %t", err, s.Current() != nil, tt.serves)
			}
		})
	}
}
