package confined

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
)

// TestMain makes the test binary its own child.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 && os.Args[1] == "again" {
		again()
	}
	os.Exit(m.Run())
}

// again is a program that runs itself under limits: it takes memory, or time, or ends as it is told.
func again() {
	if !Inside() {
		code, err := Again(Limits{CPU: 300 * time.Millisecond, Memory: 128 << 20}, os.Stdin, os.Stdout, os.Stderr)
		if err != nil {
			fmt.Println(err)
			code = 2
		}
		os.Exit(code)
	}
	var kept [][]byte
	switch os.Args[2] {
	case "time":
		for { //nolint:staticcheck // it must not end
		}
	case "memory":
		for {
			kept = append(kept, make([]byte, 1<<20))
			kept[len(kept)-1][0] = 1
		}
	case "at once":
		kept = append(kept, make([]byte, 1<<40))
	case "panic":
		panic("oops")
	}
	_, _ = io.Copy(os.Stdout, os.Stdin)
	os.Exit(7 + len(kept))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func unit(name, rego string) source.Unit {
	return source.Unit{Name: name, Files: []policies.File{{Name: name + ".rego", Data: []byte(rego)}}}
}

func good(id string) source.Unit {
	return unit(id, "package eviction."+id+"\n\ndeny contains \"x\"\n")
}

// endless takes the compiler some seconds, since it compares each else with all the others, and is small and flat enough
// for the parser.
func endless() source.Unit {
	rego := "package eviction.endless\n\nx := 0 if input.request.name == \"a\"\n"
	for i := range 6000 {
		rego += fmt.Sprintf("else := %d if input.request.name == \"a%d\"\n", i, i)
	}
	return unit("endless", rego+"deny contains \"x\" if x == 1\n")
}

// brief are limits with which a test need not wait for long.
var brief = Limits{CPU: time.Second, Memory: 256 << 20}

func TestWhatEndsPassesTheScreen(t *testing.T) {
	c := New(Limits{}, quiet())
	for name, units := range map[string][]source.Unit{
		"policies":                   {good("a"), good("b")},
		"policies with problems":     {good("a"), unit("b", "package eviction.b\n\ndeny contains nope(1)\n")},
		"what cannot even be parsed": {unit("b", "package")},
	} {
		if err := c.Screen(t.Context(), units); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatDoesNotEndIsEnded(t *testing.T) {
	c := New(brief, quiet())
	const want = "could not be compiled in 1s of CPU time"
	if err := c.Screen(t.Context(), []source.Unit{endless()}); !errors.Is(err, source.ErrBeyondLimits) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	deep := unit("deep", "package eviction.deep\n\nx := "+strings.Repeat("[", 3_000_000))
	if err := c.Screen(t.Context(), []source.Unit{deep}); err != nil && !errors.Is(err, source.ErrBeyondLimits) {
		t.Errorf("deep nesting: %v", err)
	}
}

func TestAChildEndsWithItsContext(t *testing.T) {
	c := New(Limits{CPU: time.Hour}, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	if err := c.Screen(ctx, []source.Unit{endless()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c = New(Limits{CPU: time.Hour, Wall: 200 * time.Millisecond}, quiet())
	if err := c.Screen(t.Context(), []source.Unit{endless()}); err == nil || errors.Is(err, source.ErrBeyondLimits) {
		t.Errorf("the wall's clock says something about the policies: %v", err)
	}
}

func TestOneChildAtATimeAndAShortQueue(t *testing.T) {
	c := New(Limits{}, quiet())
	c.place <- struct{}{} // a child runs
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range waiting {
		go func() {
			_, err := c.Try(ctx, source.Trial{})
			done <- err
		}()
	}
	for len(c.queue) < waiting {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Try(t.Context(), source.Trial{}); !errors.Is(err, source.ErrBusy) {
		t.Errorf("beyond the queue: %v", err)
	}
	cancel()
	for range waiting {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("who waits does not end with the context: %v", err)
		}
	}
	<-c.place
	if err := c.Screen(t.Context(), []source.Unit{good("a")}); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// loaded are sources that have compiled the units.
func loaded(t *testing.T, c *Compiler, units ...source.Unit) *source.Sources {
	t.Helper()
	s := source.New()
	s.Screen = c.Screen
	s.Add("cluster", false)
	s.Put("cluster", units, nil)
	if err := s.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestATrialSaysWhatTrySays(t *testing.T) {
	c := New(Limits{}, quiet())
	s := loaded(t, c, good("a"), unit("broken", "package eviction.broken\n\ndeny contains nope(1)\n"))
	for name, u := range map[string]source.Unit{
		"a good one":           good("c"),
		"a broken one":         unit("c", "package eviction.c\n\ndeny contains input.bda\n"),
		"one of another's id":  unit("c", "package eviction.a\n\ndeny contains \"c\"\n"),
		"the cure of a broken": good("broken"),
	} {
		trial, err := s.Trial("cluster", u)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Try(t.Context(), trial)
		if want := s.Try("cluster", u); err != nil || got.Problems.Error() != want.Error() {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got.Problems, want)
		}
		if want := check.Lint(u.Files); len(got.Problems) == 0 && got.Doubts.Error() != want.Error() {
			t.Errorf("%s: doubts\n%s\nwant\n%s", name, got.Doubts, want)
		}
	}
	trial, err := s.Trial("cluster", endless())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(brief, quiet()).Try(t.Context(), trial); !errors.Is(err, source.ErrBeyondLimits) {
		t.Errorf("a bomb: %v", err)
	}
}

func TestABombIsLeftOutAndTheOthersServe(t *testing.T) {
	s := loaded(t, New(brief, quiet()), good("a"), endless(), good("b"))
	set := s.Current()
	if set == nil || len(set.Policies()) != 2 || s.Ready() != nil {
		t.Fatalf("%v serves, ready: %v", set, s.Ready())
	}
	// A trial beside it does not meet it.
	trial, err := s.Trial("cluster", good("c"))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := New(brief, quiet()).Try(t.Context(), trial); err != nil || len(found.Problems) > 0 {
		t.Errorf("beside a bomb: %v, %v", found, err)
	}
}

func TestAChildThatFails(t *testing.T) {
	for name, in := range map[string]string{"no JSON": "{", "another type": `{"compile": 7}`} {
		if err := work(strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%s is answered", name)
		}
	}
	// A trial without its unit panics.
	if a := (request{Trial: &source.Trial{}}).answer(); a.Panic == "" || a.Stack == "" {
		t.Errorf("a panic is not told: %+v", a)
	}
	if _, err := New(Limits{}, quiet()).Try(t.Context(), source.Trial{}); !errors.Is(err, source.ErrBeyondLimits) || !strings.HasPrefix(err.Error(), "made the compiler panic") {
		t.Errorf("a panic in a child: %v", err)
	}
}
