package source

import (
	"testing"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/policytest"
)

// The helpers of all rooms by the names that these tests give them.
var (
	policy, bind, inline = policytest.Policy, policytest.Bind, policytest.Inline
	write, must          = policytest.Write, policytest.Must
	problemLines, golden = policytest.ProblemLines, policytest.Golden
	seeds                = policytest.Seeds
)

const maxFuzzed = policytest.MaxFuzzed

// compiled is the set of some files; they must be in order.
func compiled(t testing.TB, files ...policies.File) *policies.Set {
	t.Helper()
	set, err := Compile(files)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return set
}
