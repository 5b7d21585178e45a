package report

import (
	"fmt"
	"strings"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/suite"
)

// Tests is what came of tests, and how it is told.
type Tests struct {
	*suite.TestReport
	// Verbose tells of those that passed, too.
	Verbose bool
	// Threshold is the percentage of lines that should be covered.
	Threshold float64
}

// Below reports whether the coverage is less than it should be.
func (r Tests) Below() bool { return r.Coverage != nil && r.Coverage.Percent < r.Threshold }

// Print prints it as go test does, as JSON, or for CI servers.
func (r Tests) Print(to output.Printer, format string) error {
	p := printer{to}
	switch format {
	case "json":
		_, err := p.Structured("json", r.TestReport)
		return err
	case "junit":
		return p.junit(r.TestReport)
	}
	for _, d := range r.Directories {
		p.directory(d, r.Verbose)
	}
	if r.Coverage != nil {
		p.coverage(r.Coverage)
		if r.Below() {
			p.Printf("FAIL\tcoverage is %.1f %%, less than %g %%\n", r.Coverage.Percent, r.Threshold)
		}
	}
	if r.Failed() {
		p.Printf("FAIL\n")
	}
	return nil
}

func (p printer) directory(d suite.TestDirectory, verbose bool) {
	for _, r := range d.Results {
		if verbose || (!r.Passed && !r.Skipped) {
			p.result(r)
		}
	}
	switch {
	case d.Untested:
		p.Printf("?   \t%s\tno tests: there is neither *_test.rego nor suite.yaml\n", d.Directory)
		return
	case d.Tests+d.Cases == 0:
		p.Printf("ok  \t%s\tno tests to run\n", d.Directory)
		return
	}
	word := "ok  "
	counts := []string{count("test", d.Tests), count("case", d.Cases)}
	if d.Skipped > 0 {
		counts = append(counts, fmt.Sprintf("%d skipped", d.Skipped))
	}
	if d.Failed > 0 {
		word, counts = "FAIL", append(counts, fmt.Sprintf("%d failed", d.Failed))
	}
	p.Printf("%s\t%s\t%s\t%.2fs\n", word, d.Directory, strings.Join(counts, ", "), d.Seconds)
}

func count(word string, n int) string { return fmt.Sprintf("%d %s", n, output.Plural(word, n)) }

// result prints one test: how it went, where it stands, and what differs.
func (p printer) result(r suite.TestResult) {
	p.Printf("--- %s: %s (%.2fs)\n", verdict(r), r.Name, r.Seconds)
	if !r.Passed && !r.Skipped {
		p.Printf("    %s:%d\n", r.File, r.Row)
	}
	for _, d := range r.Differences {
		p.Printf("    %s\n", strings.TrimPrefix(d.Place+": "+d.What, ": "))
		p.Printf("        expected  %s\n        actual    %s\n", d.Expected, d.Actual)
	}
	if r.Output != "" {
		p.Printf("    printed\n        %s\n", strings.ReplaceAll(strings.TrimSpace(r.Output), "\n", "\n        "))
	}
}

func verdict(r suite.TestResult) string {
	switch {
	case r.Skipped:
		return "SKIP"
	case r.Passed:
		return "PASS"
	}
	return "FAIL"
}

func (p printer) coverage(c *suite.Coverage) {
	p.Printf("coverage: %.1f %% of lines\n", c.Percent)
	for _, f := range c.Files {
		missing := ""
		if len(f.Missing) > 0 {
			missing = "  not covered: " + strings.Join(f.Missing, ", ")
		}
		p.Printf("  %5.1f %%  %s%s\n", f.Percent, f.File, missing)
	}
}
