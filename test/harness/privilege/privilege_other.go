//go:build !linux

package privilege

// Missing says what this process lacks.
func Missing() string { return "Linux" }
