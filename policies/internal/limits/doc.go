// Package limits bounds what a policy may take: the size and the shape of its text before OPA reads it, and the
// steps, the memory and the builtins of an evaluation. It counts what the policy itself does, so that the same
// policy meets the same limit on every machine. docs/limits.md is written from it.
package limits
