package bundle

import (
	"log/slog"
	"testing"
)

// FuzzBundle reads a tarball that anybody may have put onto the server: nothing panics, and what is taken are policies.
func FuzzBundle(f *testing.F) {
	f.Add(tarball(f, map[string]string{"a.rego": "package eviction.a\n", ".manifest": manifest("1")}))
	f.Add(tarball(f, map[string]string{"../x.yaml": "a: b", "data.json": "{}", "b/data.yaml": "[1"}))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 64<<10 {
			return
		}
		s := &Source{location: location{name: "fuzz"}, log: slog.New(slog.DiscardHandler)}
		b, err := s.verified(raw)
		if err != nil {
			return
		}
		files, err := filesOf(&b, raw, "fuzz")
		if err == nil && len(files) == 0 {
			t.Error("a bundle without a policy was taken")
		}
	})
}
