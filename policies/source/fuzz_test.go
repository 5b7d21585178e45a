package source

import (
	"strings"
	"testing"

	"github.com/evictgate/evictgate/policies"
)

// FuzzManifest reads files of policies as far as the compiler: nothing panics, each problem is told in one line at a place
// in the file, and a document is not lost when the stream is taken apart.
func FuzzManifest(f *testing.F) {
	seeds(f, "../../config/samples/policies/*-*.yaml")
	f.Add([]byte("apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: a}\nspec: {rego: \"package eviction.a\\ndeny contains 1\"}\n---\n? [a]\n: &x {b: *x}\n"))
	f.Add([]byte("{\"apiVersion\": \"evictgate.dev/v1alpha1\", \"kind\": \"EvictionPolicy\", \"spec\": {\"match\": {\"excludes\": [null, 1]}, \"parameters\": 1e999}}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > maxFuzzed {
			return
		}
		text := string(raw)
		var parts []string
		for _, doc := range splitYAML(text) {
			parts = append(parts, doc.text)
			var s Parsed
			for _, p := range s.addPolicy(policies.File{Name: "fuzz.yaml"}, doc) {
				if p.Message == "" || strings.ContainsAny(p.Message, "\n\r") || p.Row < 1 || p.Row > strings.Count(text, "\n")+2 {
					t.Errorf("problem %+v", p)
				}
			}
		}
		var kept strings.Builder
		for line := range strings.Lines(text) {
			if strings.TrimRight(line, " \r\n") != "---" {
				kept.WriteString(line)
			}
		}
		if whole := strings.Join(parts, ""); whole != kept.String() {
			t.Errorf("%q became %q", text, parts)
		}
	})
}
