package source

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/policies"
)

// tooMuch is an error about units.
type tooMuch struct{}

func (tooMuch) Error() string        { return "could not be compiled in 4s of CPU time" }
func (tooMuch) Is(target error) bool { return target == ErrBeyondLimits }

// bomb is a policy that the screen of screened refuses; it would not be compiled in time. Without a message
// that names another unit it is one alone.
func bomb(id string) policies.File { return policy(id, `deny contains "BOMB"`) }

// screened offers units through a screen that refuses lists with a bomb, or with both halves of one, and
// counts what it is asked.
func screened(t *testing.T) (s *Sources, put func(source string, files ...policies.File) Change, asked *int) {
	t.Helper()
	s, put = sourcesOf(t, "cluster")
	asked = new(int)
	s.Screen = func(_ context.Context, units []Unit) error {
		*asked++
		has := map[string]bool{}
		for _, u := range units {
			for _, mark := range []string{"BOMB", "LEFT", "RIGHT"} {
				has[mark] = has[mark] || bytes.Contains(u.Files[0].Data, []byte(mark))
			}
		}
		if has["BOMB"] || has["LEFT"] && has["RIGHT"] {
			return tooMuch{}
		}
		return nil
	}
	return s, put, asked
}

func TestWhatDoesNotPassTheScreenIsLeftOut(t *testing.T) {
	for name, tt := range map[string]struct {
		files []policies.File
		want  string
		left  string // the units that are left out
	}{
		"nothing":                    {[]policies.File{policy("a", `deny contains "a"`)}, "a", ""},
		"a bomb among others":        {[]policies.File{policy("a", `deny contains "a"`), bomb("b"), policy("c", `deny contains "c"`)}, "a c", "b"},
		"several bombs":              {[]policies.File{bomb("a"), policy("b", `deny contains "b"`), bomb("c"), bomb("d")}, "b", "a c d"},
		"a bomb beside a broken one": {[]policies.File{policy("a", `deny contains input.bad`), bomb("b"), policy("c", `deny contains "c"`)}, "c", "a b"},
		"two that are one together":  {[]policies.File{policy("a", `deny contains "LEFT"`), policy("b", `deny contains "b"`), policy("c", `deny contains "RIGHT"`)}, "a b", "c"},
		"nothing but bombs":          {[]policies.File{bomb("a"), bomb("b")}, "", "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			s, put, _ := screened(t)
			c := put("cluster", tt.files...)
			if got := ids(c.Set); got != tt.want || s.Ready() != nil {
				t.Errorf("%q serves, want %q; ready: %v", got, tt.want, s.Ready())
			}
			for _, f := range tt.files {
				v := c.Verdicts["cluster"][f.Name]
				id := strings.TrimSuffix(f.Name, ".rego")
				if left := len(v.Problems) > 0; left != strings.Contains(tt.left, id) {
					t.Errorf("%s: %v", f.Name, v)
				}
				if v.Beyond && v.Problems.Error() != f.Name+": could not be compiled in 4s of CPU time" {
					t.Errorf("%s: %s", f.Name, v.Problems)
				}
			}
		})
	}
}

func TestABombIsAskedAboutOnce(t *testing.T) {
	_, put, asked := screened(t)
	a, b := policy("a", `deny contains "a"`), policy("b", `deny contains "b"`)
	put("cluster", a, b)
	if *asked != 1 {
		t.Errorf("two good units are screened in %d steps", *asked)
	}
	*asked = 0
	if c := put("cluster", a, b, bomb("c")); ids(c.Set) != "a b" || *asked != 1 {
		t.Errorf("one bomb among known units takes %d steps; %q serves", *asked, ids(c.Set))
	}
	*asked = 0
	if put("cluster", a, b); *asked != 0 {
		t.Errorf("known units are screened again, in %d steps", *asked)
	}
}

func TestAUnitThatBecomesABombIsKeptAsItWas(t *testing.T) {
	_, put, _ := screened(t)
	good := put("cluster", policy("a", `deny contains "one"`), policy("b", `deny contains "b"`)).Set
	c := put("cluster", bomb("a"), policy("b", `deny contains "b"`))
	if v := c.Verdicts["cluster"]["a.rego"]; c.Set.Revision() != good.Revision() || !v.Kept || !v.Beyond {
		t.Errorf("%s serves; %v", ids(c.Set), v)
	}
	if c = put("cluster", bomb("a"), policy("b", `deny contains "B"`)); ids(c.Set) != "a b" || !c.Swapped {
		t.Errorf("the others do not go on: %s", ids(c.Set))
	}
}

func TestAnEssentialSourceThatIsABomb(t *testing.T) {
	s, _, _ := screened(t)
	s.Add("dir", true)
	s.Put("dir", []Unit{offered(bomb("a"))}, nil)
	var problems policies.Problems
	if err := s.Begin(t.Context()); !errors.As(err, &problems) || problems.Error() != "a.rego: could not be compiled in 4s of CPU time" {
		t.Errorf("%v", err)
	}
}

func TestAScreenThatCannotTellIsAskedAgain(t *testing.T) {
	s, put, _ := screened(t)
	put("cluster", policy("a", `deny contains "a"`))
	screen := s.Screen
	s.Screen = func(context.Context, []Unit) error { return errors.New("no more processes") }
	c := put("cluster", policy("a", `deny contains "A"`))
	if ids(s.Current()) != "a" || c.Err == nil || !strings.Contains(c.Err.Error(), "no more processes") || len(c.Verdicts["cluster"]["a.rego"].Problems) > 0 {
		t.Errorf("%v", c)
	}
	if !s.load(t.Context()) {
		t.Error("it is not tried again")
	}
	s.Screen = screen
	if before := s.Current(); s.load(t.Context()) || s.Current() == before {
		t.Error("it does not serve once it can be told")
	}
}

// Nobody waits for a unit that is being screened.
func TestNothingWaitsForTheScreen(t *testing.T) {
	s, put, _ := screened(t)
	put("cluster", policy("a", `deny contains "a"`))
	screens, release := make(chan struct{}), make(chan struct{})
	s.Screen = func(context.Context, []Unit) error { close(screens); <-release; return tooMuch{} }
	s.Put("cluster", []Unit{offered(policy("a", `deny contains "a"`)), offered(bomb("b"))}, nil)
	done := make(chan bool)
	go func() { done <- s.load(t.Context()) }()
	<-screens
	s.Put("cluster", []Unit{offered(policy("a", `deny contains "A"`))}, nil)
	trial, err := s.Trial("cluster", offered(policy("c", `deny contains "c"`)))
	if err != nil || s.Ready() != nil || s.Current() == nil {
		t.Errorf("%v, ready: %v", err, s.Ready())
	}
	if _, found := trial.Compile(); len(found) > 0 {
		t.Error(found)
	}
	close(release)
	<-done
}
