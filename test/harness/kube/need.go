package kube

import (
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/skip"
)

// Need ends a test that needs programs which are not built: those named, or without a name those of a control
// plane. With CI=true it fails.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	missing := Missing(programs...)
	if len(missing) == 0 {
		return
	}
	targets := "controlplane"
	if len(programs) > 0 {
		targets = strings.Join(missing, " ")
	}
	skip.Without(t, strings.Join(missing, ", ")+" (make "+targets+")")
}
