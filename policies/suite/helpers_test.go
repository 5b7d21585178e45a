package suite

import (
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/policytest"
)

// The helpers of all rooms by the names that these tests give them.
var (
	policy, bind, inline = policytest.Policy, policytest.Bind, policytest.Inline
	write, seeds         = policytest.Write, policytest.Seeds
)

const maxFuzzed = policytest.MaxFuzzed

// inputFor is an eviction that no policy and no budget holds.
func inputFor() *policies.Input {
	in, err := policies.ParseInput([]byte(policytest.Eviction))
	if err != nil {
		panic(err) // it is written down
	}
	return in
}
