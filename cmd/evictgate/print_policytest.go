package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/evictgate/evictgate/policies/suite"
)

// tests prints what came of tests: as go test does, as JSON or for CI servers.
func (p printer) tests(f testFlags, r *suite.TestReport) error {
	switch f.format {
	case "json":
		_, err := p.structured("json", r)
		return err
	case "junit":
		return p.junit(r)
	}
	for _, d := range r.Directories {
		p.directory(d, f.verbose)
	}
	if r.Coverage != nil {
		p.coverage(r.Coverage)
		if f.below(r) {
			p.printf("FAIL\tcoverage is %.1f %%, less than %g %%\n", r.Coverage.Percent, f.threshold)
		}
	}
	if r.Failed() {
		p.printf("FAIL\n")
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
		p.printf("?   \t%s\tno tests: there is neither *_test.rego nor suite.yaml\n", d.Directory)
		return
	case d.Tests+d.Cases == 0:
		p.printf("ok  \t%s\tno tests to run\n", d.Directory)
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
	p.printf("%s\t%s\t%s\t%.2fs\n", word, d.Directory, strings.Join(counts, ", "), d.Seconds)
}

func count(word string, n int) string { return fmt.Sprintf("%d %s", n, plural(word, n)) }

// result prints one test: how it went, where it stands, and what differs.
func (p printer) result(r suite.TestResult) {
	p.printf("--- %s: %s (%.2fs)\n", verdict(r), r.Name, r.Seconds)
	if !r.Passed && !r.Skipped {
		p.printf("    %s:%d\n", r.File, r.Row)
	}
	for _, d := range r.Differences {
		p.printf("    %s\n", strings.TrimPrefix(d.Place+": "+d.What, ": "))
		p.printf("        expected  %s\n        actual    %s\n", d.Expected, d.Actual)
	}
	if r.Output != "" {
		p.printf("    printed\n        %s\n", strings.ReplaceAll(strings.TrimSpace(r.Output), "\n", "\n        "))
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
	p.printf("coverage: %.1f %% of lines\n", c.Percent)
	for _, f := range c.Files {
		missing := ""
		if len(f.Missing) > 0 {
			missing = "  not covered: " + strings.Join(f.Missing, ", ")
		}
		p.printf("  %5.1f %%  %s%s\n", f.Percent, f.File, missing)
	}
}

// The elements of JUnit's XML, as CI servers read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr"`
		Line      int           `xml:"line,attr"`
		Time      string        `xml:"time,attr"`
		Skipped   *struct{}     `xml:"skipped"`
		Failure   *junitFailure `xml:"failure"`
		Output    string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

func (p printer) junit(r *suite.TestReport) error {
	all := junitSuites{Name: "evictgate policy test"}
	total := 0.0
	for _, d := range r.Directories {
		if d.Untested {
			continue
		}
		s := junitSuite{Name: d.Directory, Tests: d.Tests + d.Cases, Failures: d.Failed, Skipped: d.Skipped, Time: junitTime(d.Seconds)}
		for _, result := range d.Results {
			s.Cases = append(s.Cases, junitCaseOf(d.Directory, result))
		}
		all.Suites = append(all.Suites, s)
		all.Tests, all.Failures, all.Skipped, total = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped, total+d.Seconds
	}
	all.Time = junitTime(total)
	raw, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	p.printf("%s%s\n", xml.Header, raw)
	return nil
}

func junitCaseOf(directory string, r suite.TestResult) junitCase {
	c := junitCase{Name: r.Name, ClassName: strings.ReplaceAll(directory, "/", "."), File: r.File, Line: r.Row, Time: junitTime(r.Seconds), Output: r.Output}
	switch {
	case r.Skipped:
		c.Skipped = &struct{}{}
	case !r.Passed:
		c.Failure = &junitFailure{Type: "difference"}
		var lines []string
		for _, d := range r.Differences {
			lines = append(lines, fmt.Sprintf("%s\n  expected  %s\n  actual    %s", strings.TrimPrefix(d.Place+": "+d.What, ": "), d.Expected, d.Actual))
		}
		c.Failure.Text = strings.Join(lines, "\n")
		if len(r.Differences) > 0 {
			c.Failure.Message = r.Differences[0].String()
		}
	}
	return c
}

func junitTime(seconds float64) string { return fmt.Sprintf("%.3f", seconds) }
