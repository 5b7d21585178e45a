package source

import (
	"fmt"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/policies"
)

// compilations are sources that say which lists they compile.
type compilations struct {
	*Sources
	lists []string
}

func counted(names ...string) *compilations {
	c := &compilations{Sources: New()}
	c.seen.compile = func(units []Unit) (*policies.Set, policies.Problems) {
		var list []string
		for _, u := range units {
			list = append(list, strings.TrimSuffix(u.Name, ".rego"))
		}
		c.lists = append(c.lists, strings.Join(list, " "))
		return CompileUnits(units)
	}
	for _, name := range names {
		c.Add(name, false)
		c.Put(name, nil, nil)
	}
	return c
}

// put offers files by a source, as units.
func (c *compilations) put(source string, files ...policies.File) {
	units := make([]Unit, len(files))
	for i, f := range files {
		units[i] = offered(f)
	}
	c.Put(source, units, nil)
}

// good and bad are versions of a policy that compile, and that do not.
func good(id string) policies.File { return policy(id, fmt.Sprintf("deny contains %q", id)) }
func better(id string) policies.File {
	return policy(id, fmt.Sprintf("deny contains %q", strings.ToUpper(id)))
}
func bad(id string) policies.File { return policy(id, `deny contains input.bad`) }

// Each list of units is compiled once, however often it is offered, tried and loaded.
func TestUnitsAreCompiledOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*testing.T, *compilations)
		want []string // the lists that are compiled, one after the other
	}{
		"what begins, and then is loaded": {
			func(t *testing.T, c *compilations) {
				c.put("cluster", good("a"), good("b"))
				if err := c.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.load(t.Context())
			},
			[]string{"a b"},
		},
		"what is loaded again though nothing changed": {
			func(t *testing.T, c *compilations) {
				c.put("cluster", good("a"), good("b"))
				for range 3 {
					c.load(t.Context())
				}
			},
			[]string{"a b"},
		},
		"what is put, tried and loaded, as a bundle is": {
			func(t *testing.T, c *compilations) {
				c.put("cluster", good("a"))
				if problems := c.Try("cluster", offered(good("a"))); len(problems) > 0 {
					t.Fatal(problems)
				}
				c.load(t.Context())
			},
			[]string{"a"},
		},
		"a version that comes back": {
			func(t *testing.T, c *compilations) {
				for _, f := range []policies.File{good("a"), better("a"), good("a")} {
					c.put("cluster", f)
					c.load(t.Context())
				}
			},
			[]string{"a", "a"},
		},
		"a broken one among others": {
			func(t *testing.T, c *compilations) {
				for range 3 {
					c.put("cluster", good("a"), bad("b"), good("c"))
					c.load(t.Context())
				}
			},
			[]string{"a b c", "a c", "b"},
		},
		"a broken one, of which the last good version serves on": {
			func(t *testing.T, c *compilations) {
				c.put("cluster", good("a"), good("b"))
				c.load(t.Context())
				for range 3 {
					c.put("cluster", good("a"), bad("b"))
					c.load(t.Context())
				}
			},
			[]string{"a b", "a b", "a", "b"},
		},
		"two that cannot stand beside each other": {
			func(t *testing.T, c *compilations) {
				c.put("dir", good("a"))
				for range 3 {
					c.put("cluster", policies.File{Name: "other.rego", Data: better("a").Data})
					c.load(t.Context())
				}
			},
			[]string{"a other", "a", "other"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := counted("dir", "cluster")
			tt.do(t, c)
			if got, want := strings.Join(c.lists, ", "), strings.Join(tt.want, ", "); got != want {
				t.Errorf("compiled are %s; want %s", got, want)
			}
			if c.Current() == nil {
				t.Error("nothing serves")
			}
		})
	}
}

// Another place of the same text is another list: problems name it.
func TestContentHasItsNames(t *testing.T) {
	base := Unit{Name: "x", Files: []policies.File{{Name: "x", Data: []byte("{}")}}}
	seen := map[content]string{contentOf([]Unit{base}): "the base"}
	for name, units := range map[string][]Unit{
		"nothing":               {},
		"another unit's name":   {{Name: "y", Files: base.Files}},
		"another file's name":   {{Name: "x", Files: []policies.File{{Name: "y", Data: []byte("{}")}}}},
		"another text":          {{Name: "x", Files: []policies.File{{Name: "x", Data: []byte("{ }")}}}},
		"an object, not a file": {{Name: "x", Files: []policies.File{{Name: "x", Data: []byte("{}"), Object: true}}}},
		"twice":                 {base, base},
		"two files":             {{Name: "x", Files: append(base.Files[:1:1], base.Files...)}},
		"the name in the text":  {{Name: "x", Files: []policies.File{{Name: "", Data: []byte("x{}")}}}},
	} {
		c := contentOf(units)
		if other, ok := seen[c]; ok {
			t.Errorf("%s is taken for %s", name, other)
		}
		seen[c] = name
	}
}

// What a trial has compiled to an end is not screened again when it is offered; anything else is.
func TestWhatPassedATrialIsNotScreenedAgain(t *testing.T) {
	s, put, asked := screened(t)
	put("cluster", good("a"))
	trial, err := s.Trial("cluster", offered(good("b")))
	must(t, err)
	s.Passed(trial)
	*asked = 0
	if c := put("cluster", good("a"), good("b")); ids(c.Set) != "a b" || *asked != 0 {
		t.Errorf("%q serves after %d screens", ids(c.Set), *asked)
	}
	if c := put("cluster", good("a"), better("b")); ids(c.Set) != "a b" || *asked != 1 {
		t.Errorf("another version: %q serves after %d screens", ids(c.Set), *asked)
	}
}

// What a memory holds is bounded, and what it has forgotten is compiled again.
func TestAMemoryIsBounded(t *testing.T) {
	m := newMemory()
	compiled := 0
	m.compile = func([]Unit) (*policies.Set, policies.Problems) { compiled++; return policies.None(), nil }
	list := func(i int) []Unit { return []Unit{{Name: fmt.Sprint(i)}} }
	for i := range maxCompiled + 10 {
		m.problems(list(i), true)
	}
	if len(m.compiled) > maxCompiled || len(m.sets) != maxSets {
		t.Errorf("%d lists and %d sets are remembered", len(m.compiled), len(m.sets))
	}
	compiled = 0
	m.problems(list(maxCompiled+9), true)
	if m.set(list(maxCompiled+9)) == nil || compiled != 0 {
		t.Error("the latest is forgotten")
	}
	if m.problems(list(0), true); compiled != 1 {
		t.Error("the first is remembered")
	}
	for i := range maxScreened + 10 {
		m.screen(list(i), nil)
		m.screen(list(-i-1), tooMuch{})
	}
	if n := len(m.ended) + len(m.never); n > maxScreened {
		t.Errorf("%d screened lists are remembered", n)
	}
}

// The default set is told without compiling the library; it must be the one that is compiled.
func TestDefaultIDs(t *testing.T) {
	set, err := policies.Default()
	must(t, err)
	if got, want := strings.Join(defaultIDs(), " "), ids(set); got != want || got == "" {
		t.Errorf("%q, want %q", got, want)
	}
}

// BenchmarkReload loads 30 policies of a cluster: when one of them changes, when nothing does, and with a broken one among them.
func BenchmarkReload(b *testing.B) {
	many := func(change ...policies.File) []Unit {
		var units []Unit
		for i := range 30 {
			units = append(units, offered(policy(fmt.Sprintf("p%02d", i), `deny contains {"reason": "x"} if input.pod.metadata.labels.app == "a"`)))
		}
		for i, f := range change {
			units[i] = offered(f)
		}
		return units
	}
	for name, offer := range map[string]func(i int) []Unit{
		"one changes": func(i int) []Unit { return many(policy("p00", fmt.Sprintf(`deny contains "%d"`, i))) },
		"one changes beside a broken one": func(i int) []Unit {
			return many(policy("p00", fmt.Sprintf(`deny contains "%d"`, i)), bad("p01"))
		},
		"nothing changes":                     func(int) []Unit { return many() },
		"nothing changes beside a broken one": func(int) []Unit { return many(good("p00"), bad("p01")) },
	} {
		b.Run(name, func(b *testing.B) {
			s := New()
			s.Add("cluster", false)
			for i := 0; b.Loop(); i++ {
				s.Put("cluster", offer(i), nil)
				s.load(b.Context())
			}
		})
	}
}
