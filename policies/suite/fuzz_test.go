package suite

import "testing"

// FuzzSuite reads suite.yaml files.
func FuzzSuite(f *testing.F) {
	seeds(f, "../eviction/*/suite.yaml")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > maxFuzzed {
			return
		}
		if s, err := parse("dir", raw); err == nil && len(s.Cases) == 0 {
			t.Error("a suite without a case")
		}
	})
}
