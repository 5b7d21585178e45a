package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/policies/suite"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// testFlags are the flags of policy test.
type testFlags struct {
	verbose   bool
	run       string
	coverage  bool
	threshold float64
	timeout   time.Duration
	format    string
}

func newPolicyTest(p output.Printer) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the tests of policies; exit 1 when one fails",
		Long: `Test runs what tests the policies below PATH:

- every *_test.rego, by OPA's own tester with the settings of the server: its builtins, its schema of the
  input, strict, and a builtin that errs fails the test;
- every suite.yaml: a table of evictions in samples of a cluster, decided as the server would.

All Rego below the paths is one set, as for the server, and so is what EvictionPolicies hold inline. A
suite is about <folder>.rego unless its key "policy" names another file beside it; when that is the YAML
of an EvictionPolicy, the very file is tested, with the parameters, enforcement and match in it.`,
		Example: `  evictgate policy test ./policies
  evictgate policy test -v --run 'boundary|delays' ./policies/last_ready_replica
  evictgate policy test --coverage --threshold 90 ./policies
  evictgate policy test -o junit ./policies > report.xml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			found, err := f.test(cmd.Context(), paths)
			if err != nil {
				return err
			}
			tests := report.Tests{TestReport: found, Verbose: f.verbose, Threshold: f.threshold}
			if err := tests.Print(p, f.format); err != nil {
				return err
			}
			if tests.Failed() || tests.Below() {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print every test and case, and what tests print")
	flags.StringVar(&f.run, "run", "", "run only the tests and cases whose name this regular expression matches")
	flags.BoolVar(&f.coverage, "coverage", false, "print how much of each policy the tests and cases evaluate, and which lines they do not")
	flags.Float64Var(&f.threshold, "threshold", 0, "exit 1 when less than this percentage of all lines is covered; turns --coverage on")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long one test or case may take")
	flags.StringVarP(&f.format, "output", "o", "text", "text, json or junit")
	addLimits(cmd, 10*time.Minute, 1<<30)
	return cmd
}

func (f *testFlags) test(ctx context.Context, paths []string) (*suite.TestReport, error) {
	if err := oneOf("output", f.format, "text", "json", "junit"); err != nil {
		return nil, err
	}
	switch {
	case f.timeout <= 0:
		return nil, fmt.Errorf("--timeout is %s; expected more than 0s", f.timeout)
	case f.threshold < 0 || f.threshold > 100:
		return nil, fmt.Errorf("--threshold is %v; expected a percentage from 0 to 100", f.threshold)
	}
	f.coverage = f.coverage || f.threshold > 0
	o := suite.TestOptions{Timeout: f.timeout, Coverage: f.coverage, Gather: cluster.GatherSample}
	if f.run != "" {
		pattern, err := regexp.Compile(f.run)
		if err != nil {
			return nil, fmt.Errorf("--run is %q: %w", f.run, err)
		}
		o.Run = pattern
	}
	r, err := suite.Test(ctx, o, paths...)
	switch {
	case err != nil:
		return nil, err
	case r.Ran() == 0 && f.run != "":
		return nil, fmt.Errorf("no test and no case matches --run %s in %s", f.run, strings.Join(paths, ", "))
	case r.Ran() == 0:
		return nil, fmt.Errorf("no tests in %s: expected *_test.rego or suite.yaml beside the policies", strings.Join(paths, ", "))
	}
	return r, nil
}
