package check

import "github.com/evictgate/evictgate/policies/internal/policytest"

// The helpers of all rooms by the names that these tests give them.
var policy, must, golden = policytest.Policy, policytest.Must, policytest.Golden
