package source

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/evictgate/evictgate/policies"
)

// follow opens directories and follows them until the test ends. What OnChange is told comes out of the
// channel: the names of the policies, or "failed: " and the problem.
func follow(t *testing.T, paths ...string) (*Sources, <-chan string) {
	t.Helper()
	s := New()
	told := make(chan string, 100)
	s.OnChange = func(c Change) { told <- changeText(c) }
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, path := range paths {
		d, err := openInto(s, path)
		must(t, err)
		running.Go(func() { must(t, d.Start(ctx)) })
	}
	must(t, s.Begin(t.Context()))
	running.Go(func() { must(t, s.Start(ctx)) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		goleak.VerifyNone(t)
	})
	<-told                 // what serves at first
	time.Sleep(2 * settle) // past the first look, so that only watching tells
	return s, told
}

// openInto adds a directory to the sources.
func openInto(s *Sources, path string) (*Directory, error) {
	s.Add(path, true)
	return OpenDirectory(path, func(files []policies.File, err error) {
		s.Put(path, []Unit{{Name: path, Files: files}}, err)
	})
}

func changeText(c Change) string {
	var failures []string
	if c.Err != nil {
		failures = append(failures, c.Err.Error())
	}
	for _, units := range c.Verdicts {
		for _, v := range units {
			if len(v.Problems) > 0 && v.Kept {
				failures = append(failures, v.Problems.Error())
			}
		}
	}
	if len(failures) > 0 {
		return "failed: " + strings.Join(failures, "; ")
	}
	return ids(c.Set)
}

func ids(set *policies.Set) string {
	var names []string
	for _, p := range set.Policies() {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// expect waits for what is told next.
func expect(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("nothing told, want %q", want)
	}
}

func silence(t *testing.T, told <-chan string) {
	t.Helper()
	select {
	case got := <-told:
		t.Fatalf("told %q, want nothing", got)
	case <-time.After(4 * settle):
	}
}

func TestDirectoriesFollowEdits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.rego": regoOf("a")})
	d, told := follow(t, dir)
	first := d.Current()

	write(t, dir, map[string]string{"deep/b.rego": regoOf("b")})
	expect(t, told, "a b")
	write(t, dir, map[string]string{"deep/c.rego": regoOf("c")})
	expect(t, told, "a b c")
	good := d.Current()
	if good.Revision() == first.Revision() {
		t.Error("another revision is served under the same name")
	}

	const broken = "package eviction.c\n\ndeny contains"
	write(t, dir, map[string]string{"deep/c.rego": broken})
	failure := "failed: " + filepath.Join(dir, "deep/c.rego") + ":3:1: rego_parse_error: unexpected eof token; deny contains"
	select {
	case got := <-told:
		if !strings.HasPrefix(got, "failed: "+filepath.Join(dir, "deep/c.rego")+":3") {
			t.Fatalf("told %q, want one like %q", got, failure)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the broken edit is not told")
	}
	if diff := cmp.Diff(good.Revision(), d.Current().Revision()); diff != "" {
		t.Errorf("the last good revision is not kept: %s", diff)
	}
	write(t, dir, map[string]string{"deep/c.rego": broken}) // touched, broken as before
	silence(t, told)

	write(t, dir, map[string]string{"deep/c.rego": regoOf("c")}) // as it was before it broke
	expect(t, told, "a b c")
	write(t, dir, map[string]string{"README.md": "nothing"})
	silence(t, told)

	must(t, os.Remove(filepath.Join(dir, "a.rego")))
	expect(t, told, "b c")
	must(t, os.RemoveAll(filepath.Join(dir, "deep")))
	expect(t, told, "failed: "+dir+": no policy found: expected *.rego with a package eviction.<id>, or *.yaml with an EvictionPolicy")
	if got := ids(d.Current()); got != "b c" {
		t.Errorf("an emptied directory leaves %q serving, want the last good revision", got)
	}
}

func TestDirectoriesFollowAConfigMap(t *testing.T) {
	dir := t.TempDir()
	swap := configMap(t, dir, map[string]string{"a.rego": regoOf("a")})
	d, told := follow(t, dir)
	swap(map[string]string{"a.rego": regoOf("b")})
	expect(t, told, "b")
	swap(map[string]string{"a.rego": regoOf("c")})
	expect(t, told, "c")
	if got := ids(d.Current()); got != "c" {
		t.Errorf("%q serves", got)
	}
}

func TestDirectoriesFollowALinkAndAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"one/a.rego": regoOf("a"), "two/b.rego": regoOf("b"), "file/c.rego": regoOf("c")})
	must(t, os.Symlink("one", filepath.Join(dir, "link")))
	_, told := follow(t, filepath.Join(dir, "link"), filepath.Join(dir, "file/c.rego"))

	write(t, dir, map[string]string{"one/d.rego": regoOf("d")})
	expect(t, told, "a c d")
	must(t, os.Symlink("two", filepath.Join(dir, "new")))
	must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "link")))
	expect(t, told, "b c")
	write(t, dir, map[string]string{"file/tmp": regoOf("e")}) // editors write beside, then rename
	must(t, os.Rename(filepath.Join(dir, "file/tmp"), filepath.Join(dir, "file/c.rego")))
	expect(t, told, "b e")
}

// What changed between OpenDirectory and Start is not watched, and must not wait for recheck.
func TestDirectoriesSeeWhatChangedBeforeStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.rego": regoOf("a")})
	told := make(chan string, 10)
	d, err := OpenDirectory(dir, func(files []policies.File, _ error) { told <- string(files[0].Data) })
	must(t, err)
	expect(t, told, regoOf("a"))
	write(t, dir, map[string]string{"a.rego": regoOf("b")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Start(ctx) }()
	expect(t, told, regoOf("b"))
	cancel()
	must(t, <-ended)
	goleak.VerifyNone(t)
}

// A neighbour that never rests does not put a reload off for ever.
func TestDirectoriesReloadBesideABusyNeighbour(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"policies/a.rego": regoOf("a")})
	_, told := follow(t, filepath.Join(dir, "policies"))
	write(t, dir, map[string]string{"policies/b.rego": regoOf("b")})
	deadline := time.After(3 * patience)
	for i := 0; ; i++ {
		select {
		case got := <-told:
			if got != "a b" {
				t.Fatalf("told %q", got)
			}
			return
		case <-deadline:
			t.Fatal("not reloaded while a neighbour is busy")
		case <-time.After(settle / 4):
			write(t, dir, map[string]string{"busy": strings.Repeat("x", i%7)})
		}
	}
}

func TestBeginTellsWhatIsBrokenInEveryDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"one/a.rego": "package nope\n", "one/b.yaml": "kind: X\n", "two/c.rego": "package none\n"})
	s := New()
	for _, path := range []string{"one", "two"} {
		_, err := openInto(s, filepath.Join(dir, path))
		must(t, err)
	}
	want := []string{
		filepath.Join(dir, "one/b.yaml") + `:1:1: expected apiVersion evictgate.dev/v1alpha1 and kind EvictionPolicy, found "" and "X"`,
		filepath.Join(dir, "one/a.rego") + ":1:1: package nope is neither a policy, eviction.<id>, nor a helper below lib; write package eviction.nope",
		filepath.Join(dir, "two/c.rego") + ":1:1: package none is neither a policy, eviction.<id>, nor a helper below lib; write package eviction.none",
	}
	slices.Sort(want)
	got := problemLines(t, s.Begin(t.Context()))
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAnEmptyDirectoryIsAMistake(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenDirectory(dir, func([]policies.File, error) { t.Error("it is offered") })
	if diff := cmp.Diff([]string{dir + ": no policy found: expected *.rego with a package eviction.<id>, or *.yaml with an EvictionPolicy"}, problemLines(t, err)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
