// Package policies is the decision: what a policy sees (Input), what the bound policies of a set read of it
// (Needs), how they are asked (Set), and what comes out (Decision).
//
// It knows no client, no HTTP and no controller-runtime. The webhook, the command line and the review page all
// enter at Set.Evaluate, so that what is tested offline is what runs. Package source makes sets of files and
// EvictionPolicies, package check finds fault with policies, package suite tests and explains them.
package policies
