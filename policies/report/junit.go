package report

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/evictgate/evictgate/policies/suite"
)

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
	p.Printf("%s%s\n", xml.Header, raw)
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
