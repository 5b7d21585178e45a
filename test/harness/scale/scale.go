// Package scale says how large the tests are that repeat one thing many times.
package scale

import "os"

// Of is how often a test repeats what it does: quick, or whole where everything is run (make test-all sets
// EVICTGATE_TESTS=whole).
func Of(quick, whole int) int {
	if os.Getenv("EVICTGATE_TESTS") == "whole" {
		return whole
	}
	return quick
}
