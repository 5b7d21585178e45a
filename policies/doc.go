// Package policies is the policy half of Evictgate: what a policy sees (Input), how a set of
// Rego policies is loaded, compiled and evaluated (Set), and what comes out (Decision).
//
// It knows no client, no HTTP and no controller-runtime. The webhook, the command line and the
// review page all enter at Set.Evaluate, so that what is tested offline is what runs.
package policies
