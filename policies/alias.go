package policies

import (
	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// File is one policy source: a Rego module or a YAML stream of EvictionPolicies.
type File = rego.File

// Problem is one finding about a policy source, at its place.
type Problem = rego.Problem

// Problems is the error of a set that cannot be used; it lists everything found, not the first.
type Problems = rego.Problems

// SeverityWarning is the severity of a problem with which the set can be used, but hardly does what its author means.
const SeverityWarning = rego.SeverityWarning

// DefaultPolicySteps is how many steps one policy may take when nothing else is said.
const DefaultPolicySteps = limits.DefaultPolicySteps
