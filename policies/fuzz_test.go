package policies

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"sigs.k8s.io/yaml"
)

// FuzzEvictors reads rules that name who evicts: what is taken names somebody, by a name that fits a label.
func FuzzEvictors(f *testing.F) {
	f.Add([]byte("evictors:\n- {evictor: ops, users: [\"*@example.com\", jane], groups: [\"*\"]}\ndefaults: false\n"), "jane")
	f.Add([]byte("evictors: [{evictor: a, users: [\"**a*b**\"]}]"), "system:serviceaccount:kube-system:karpenter")
	f.Fuzz(func(t *testing.T, raw []byte, user string) {
		if len(raw) > maxFuzzed || len(user) > maxFuzzed {
			return
		}
		e, err := parseEvictors(raw)
		if err != nil {
			return
		}
		if got := e.Of(User{Username: user, Groups: []string{user, ""}}); !evictorName.MatchString(got) {
			t.Errorf("%q is evictor %q", user, got)
		}
	})
}

// FuzzTermOf reads JSON as OPA's own value: what is JSON gives the value that OPA's own way does, and nothing panics.
func FuzzTermOf(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e3,"\u00e9\n",null,true,{}],"b":""}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > maxFuzzed {
			return
		}
		_, _ = termOf(raw) // only a projection's own JSON is promised to be read
		var v any
		if json.Unmarshal(raw, &v) != nil {
			return
		}
		written, err := json.Marshal(v)
		if err != nil {
			return
		}
		want, err := ast.ValueFromReader(strings.NewReader(string(written)))
		if err != nil {
			return
		}
		got, err := termOf(written)
		if err != nil || got.Value.Compare(want) != 0 {
			t.Errorf("%s is %v (%v), want %v", written, got, err, want)
		}
	})
}

// FuzzParameters holds a description and what is given to it: nothing panics, what is given complete stays as it was, and
// the given is not changed.
func FuzzParameters(f *testing.F) {
	f.Add([]byte(`{"properties":{"max":{"type":"integer","default":1,"minimum":0},"names":{"type":"array","items":{"type":"string"}}},"required":["names"]}`), []byte(`{"names":["a"],"max":"x"}`))
	f.Add([]byte(`{"properties":{"a":{"$ref":"#"}}}`), []byte(`{"a":1e400}`))
	f.Fuzz(func(t *testing.T, described, raw []byte) {
		if len(described)+len(raw) > maxFuzzed {
			return
		}
		var p Parameters
		var given map[string]any
		if json.Unmarshal(described, &p) != nil || yaml.Unmarshal(raw, &given) != nil || p.verify() != nil {
			return
		}
		before, _ := json.Marshal(given)
		for _, wrong := range p.check(given) {
			if wrong.message == "" {
				t.Errorf("a parameter is wrong, and it is not said why: %+v", wrong)
			}
		}
		complete := p.complete(given)
		for name, value := range given {
			if value != nil && complete[name] == nil {
				t.Errorf("%s=%v is lost", name, value)
			}
		}
		if after, _ := json.Marshal(given); string(after) != string(before) {
			t.Errorf("%s was changed to %s", before, after)
		}
	})
}
