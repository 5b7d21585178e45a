package skip

import (
	"os"
	"path/filepath"
	"testing"
)

func TestATestThatLacksSomethingIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv("EVICTGATE_SKIPPED", file)
	t.Setenv("CI", "")
	for name, missing := range map[string][]string{"lacks": {"ip", "root"}, "lacks nothing": nil} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Skipped() != (missing != nil) {
					t.Errorf("skipped: %t", t.Skipped())
				}
			})
			Without(t, missing...)
		})
	}
	got, err := os.ReadFile(file)
	if want := "TestATestThatLacksSomethingIsTold/lacks: missing: ip, root\n"; err != nil || string(got) != want {
		t.Errorf("told %q, want %q: %v", got, want, err)
	}
}

// failing is a test that is stopped, and not this one.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Fatal(...any) { f.failed = true }
func (f *failing) Skip(...any)  {}

func TestInCINothingIsSkipped(t *testing.T) {
	t.Setenv("EVICTGATE_SKIPPED", "")
	for ci, want := range map[string]bool{"true": true, "": false} {
		t.Setenv("CI", ci)
		f := &failing{TB: t}
		Without(f, "root")
		if f.failed != want {
			t.Errorf("CI=%s: failed is %t, want %t", ci, f.failed, want)
		}
	}
}
