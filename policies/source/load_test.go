package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

func regoOf(id string) string { return string(policy(id, `deny contains "`+id+`"`).Data) }

func TestProblemsOfEvictionPolicies(t *testing.T) {
	const head = "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata:\n  name: a\nspec:\n"
	for name, tt := range map[string]struct{ yaml, want string }{
		"text":                           {"just text\n", "x.yaml:1:1: not an EvictionPolicy: expected a map with apiVersion, kind, metadata and spec"},
		"a wrong kind":                   {"apiVersion: v1\nkind: ConfigMap\n", `x.yaml:1:1: expected apiVersion evictgate.dev/v1alpha1 and kind EvictionPolicy, found "v1" and "ConfigMap"`},
		"no name":                        {strings.Replace(head, "name: a", "labels: {}", 1) + "  library: do_not_disrupt\n", "x.yaml:3:1: metadata.name is missing"},
		"neither library nor rego":       {head, "x.yaml:5:1: spec has neither library, the id of a shipped policy, nor rego, a policy of your own; set one of them"},
		"both library and rego":          {head + "  library: do_not_disrupt\n  rego: x\n", "x.yaml:6:3: spec.library and spec.rego are both set; leave one of them out"},
		"an unknown library id":          {head + "  library: nope\n", "x.yaml:6:3: the library has no policy nope; there are " + rego.ShortList(policies.LibraryIDs())},
		"a bad enforcement":              {head + "  library: do_not_disrupt\n  enforcement: Block\n", "x.yaml:7:3: spec.enforcement is Block; it must be Enforce, Warn or Audit"},
		"an unknown field":               {head + "  library: do_not_disrupt\n  bogus: 1\n", "x.yaml:7:3: there is no field spec.bogus; there are enforcement, library, match, maxHold, parameters, rego"},
		"a field that stands twice":      {head + "  library: do_not_disrupt\n  library: x\n", "x.yaml:7:3: spec.library stands in line 6 already"},
		"a bad selector":                 {head + "  library: do_not_disrupt\n  match:\n    podSelector:\n      matchExpressions: [{key: a, operator: Is}]\n", `x.yaml:8:5: spec.match.podSelector: "Is" is not a valid label selector operator`},
		"an empty exclude":               {head + "  library: do_not_disrupt\n  match:\n    excludes: [{}]\n", "x.yaml:8:16: spec.match.excludes[0] is empty and would exclude every eviction; name a namespaceSelector, podSelector, podState or evictors"},
		"an exclude with a bad selector": {head + "  library: do_not_disrupt\n  match:\n    excludes:\n    - namespaceSelector:\n        matchLabels: {a: b c}\n", `x.yaml:9:7: spec.match.excludes[0].namespaceSelector: values[0][a]: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`},
		"an empty evictor":               {head + "  library: do_not_disrupt\n  match:\n    evictors: [{}]\n", "x.yaml:8:16: spec.match.evictors[0] is empty; name a kind, user or group"},
		"a helper instead of a policy":   {head + "  rego: |\n    # a helper\n    package lib.y\n", "x.yaml:8:5: spec.rego must be a policy, package eviction.<id>; a helper below lib stands in a .rego file"},
		"one name twice":                 {head + "  library: do_not_disrupt\n---\n" + head + "  library: do_not_disrupt\n", "x.yaml:11:3: EvictionPolicy a stands in x.yaml, too"},
		"bad YAML, in its own line of the second document": {"# first\n---\n" + head + "  library: do_not_disrupt\n---\n\n" + head + "  parameters: [\n", "x.yaml:16: not an EvictionPolicy: did not find expected node content"},
		"the row of the third document":                    {"---\n" + head + "  library: do_not_disrupt\n--- \r\n# nothing\n---\nkind: X\n", `x.yaml:11:1: expected apiVersion evictgate.dev/v1alpha1 and kind EvictionPolicy, found "" and "X"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile([]policies.File{{Name: "x.yaml", Data: []byte(tt.yaml)}})
			if diff := cmp.Diff([]string{tt.want}, problemLines(t, err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// An object of a cluster has no lines; its problems are told by field, and in its Rego by line and column of that.
func TestProblemsOfObjects(t *testing.T) {
	const head = `{"apiVersion":"evictgate.dev/v1alpha1","kind":"EvictionPolicy","metadata":{"name":"a"},"spec":`
	for name, tt := range map[string]struct {
		object, spec string
		want         []string
	}{
		"a type error in Rego": {"EvictionPolicy/a", `{"rego":"package eviction.a\n\ndeny contains nope(1)\n"}`, []string{"EvictionPolicy/a spec.rego:3:15: there is no function nope"}},
		"two errors in Rego": {"EvictionPolicy/a", `{"rego":"package eviction.a\n\ndeny contains nope(1)\ndelay contains neither(1)\n"}`, []string{
			"EvictionPolicy/a spec.rego:3:15: there is no function nope",
			"EvictionPolicy/a spec.rego:4:16: there is no function neither",
		}},
		"a bracket that is never closed":     {"EvictionPolicy/a", `{"rego":"package eviction.a\n\ndeny contains ("}`, []string{"EvictionPolicy/a spec.rego:3:15: this ( is never closed"}},
		"METADATA that contradicts":          {"EvictionPolicy/a", `{"rego":"# METADATA\n# custom:\n#   id: y\npackage eviction.a\n\ndeny contains \"x\"\n"}`, []string{"EvictionPolicy/a spec.rego:3:5: METADATA: custom.id is y, but the package is eviction.a"}},
		"an empty module":                    {"EvictionPolicy/a", `{"rego":"# nothing"}`, []string{"EvictionPolicy/a spec.rego: the file is empty; it must begin with its package: `package eviction.<id>`"}},
		"a helper instead of a policy":       {"EvictionPolicy/a", `{"rego":"package lib.y\n"}`, []string{"EvictionPolicy/a spec.rego:1:1: must be a policy, package eviction.<id>; a helper below lib stands in a .rego file"}},
		"a parameter of another type":        {"EvictionPolicy/a", `{"library":"last_ready_replica","parameters":{"min_ready":"two"}}`, []string{"EvictionPolicy/a spec.parameters.min_ready: parameter min_ready: Invalid type. Expected: integer, given: string"}},
		"a field nobody knows":               {"EvictionPolicy/a", `{"library":"freeze_window","mode":1}`, []string{"EvictionPolicy/a spec.mode: there is no field spec.mode; there are enforcement, library, match, maxHold, parameters, rego"}},
		"a field that is wrong":              {"EvictionPolicy/a", `{"library":"do_not_disrupt","maxHold":"-1s"}`, []string{"EvictionPolicy/a spec.maxHold: is -1s; give a time such as 24h, or leave it out for no limit"}},
		"a name that ends as a file of Rego": {"EvictionPolicy/a.rego", `{"library":"last_ready_replica","parameters":{"min_ready":"two"}}`, []string{"EvictionPolicy/a.rego spec.parameters.min_ready: parameter min_ready: Invalid type. Expected: integer, given: string"}},
		"a policy that is there as a file":   {"EvictionPolicy/a", `{"rego":"package eviction.z\n\ndeny contains \"x\"\n"}`, []string{"z.rego:1:1: policy eviction.z is defined in EvictionPolicy/a spec.rego, too; give one of them another id"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile([]policies.File{{Name: tt.object, Data: []byte(head + tt.spec + "}"), Object: true}, policy("z", `deny contains "z"`)})
			if diff := cmp.Diff(tt.want, problemLines(t, err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestIsSource(t *testing.T) {
	for name, want := range map[string]bool{
		"a.rego":            true,
		"deep/er/a.rego":    true,
		"/a.yaml":           true,
		"./a.yml":           true,
		"a_test.rego":       false,
		"a.json":            false,
		".a.rego":           false,
		"deep/suite.yaml":   false,
		"samples/a.yaml":    false,
		"a/samples/x/b.yml": false,
		"testdata/a.rego":   false,
		".git/a.yaml":       false,
	} {
		if got := IsSource(name); got != want {
			t.Errorf("IsSource(%q) = %t", name, got)
		}
	}
}

func TestReadDirLeavesOutWhatIsNoPolicy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.rego": regoOf("a"), "a_test.rego": "broken", "deep/er/b.rego": regoOf("b"), "deep/c.yaml": "# c", "deep/d.yml": "# d",
		"deep/suite.yaml": "broken", "samples/s.yaml": "broken", "testdata/t.rego": "broken",
		".hidden.rego": "broken", ".git/x.rego": "broken", "README.md": "broken", "rego": "broken",
	})
	files, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []policies.File{
		{Name: filepath.Join(dir, "a.rego"), Data: []byte(regoOf("a"))},
		{Name: filepath.Join(dir, "deep/c.yaml"), Data: []byte("# c")},
		{Name: filepath.Join(dir, "deep/d.yml"), Data: []byte("# d")},
		{Name: filepath.Join(dir, "deep/er/b.rego"), Data: []byte(regoOf("b"))},
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// configMap lays a directory out as the kubelet does: links into a hidden directory that a link
// names. It returns a function that swaps in another content.
func configMap(t *testing.T, dir string, files map[string]string) (swap func(map[string]string)) {
	t.Helper()
	version := 0
	swap = func(files map[string]string) {
		t.Helper()
		version++
		data := "..2026_" + string(rune('a'+version))
		write(t, filepath.Join(dir, data), files)
		must(t, os.Symlink(data, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	swap(files)
	for name := range files {
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	return swap
}

func TestReadDirFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	configMap(t, filepath.Join(dir, "mounted"), map[string]string{"a.rego": regoOf("a"), "b.rego": regoOf("b")})
	must(t, os.Symlink("mounted", filepath.Join(dir, "link")))
	for _, root := range []string{"mounted", "link"} {
		files, err := ReadDir(filepath.Join(dir, root))
		if err != nil {
			t.Fatal(err)
		}
		want := []policies.File{
			{Name: filepath.Join(dir, root, "a.rego"), Data: []byte(regoOf("a"))},
			{Name: filepath.Join(dir, root, "b.rego"), Data: []byte(regoOf("b"))},
		}
		if diff := cmp.Diff(want, files); diff != "" {
			t.Errorf("%s -want +got:\n%s", root, diff)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"one/a.rego": regoOf("a"), "two/a.rego": regoOf("a"), "three/b.rego": regoOf("b"),
		"empty/README.md": "none", "helpers/x.rego": "package lib.x\n\ny := 1\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }

	one, err := Load(at("one"))
	must(t, err)
	two, err := Load(at("two/a.rego"))
	must(t, err)
	both, err := Load(at("one"), at("three"))
	must(t, err)
	if one.Revision() != two.Revision() {
		t.Errorf("the same policy in another place has another revision: %s and %s", one.Revision(), two.Revision())
	}
	if n := len(both.Policies()); n != 2 {
		t.Errorf("two directories give %d policies, want 2", n)
	}
	const none = ": no policy found: expected *.rego with a package eviction.<id>, or *.yaml with an EvictionPolicy"
	for name, tt := range map[string]struct {
		paths []string
		want  string
	}{
		"an empty directory":            {[]string{at("empty")}, at("empty") + none},
		"a directory of helpers":        {[]string{at("helpers"), at("empty")}, at("helpers") + ", " + at("empty") + none},
		"a directory that is not there": {[]string{at("nope")}, "read policies: stat " + at("nope") + ": no such file or directory"},
		"one policy in two directories": {[]string{at("one"), at("two")}, at("two/a.rego") + ":1:1: policy eviction.a is defined in " + at("one/a.rego") + ", too; give one of them another id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(tt.paths...)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
