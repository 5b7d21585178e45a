// Package report prints what people ask of decisions: lists, the story of one, what is stuck, sums, what an import found and
// what a replay would change.
package report

import "github.com/evictgate/evictgate/policies/output"

// printer prints the parts of reports.
type printer struct{ output.Printer }
