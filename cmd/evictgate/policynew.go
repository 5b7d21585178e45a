package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/policies/suite"
)

func newPolicyNew(p output.Printer) *cobra.Command {
	var dir, effect string
	cmd := &cobra.Command{
		Use:   "new ID",
		Short: "Begin a policy: Rego with METADATA, its tests, a suite and a sample, in a directory ID",
		Long: `New makes a directory ID with a policy that works: ID.rego with METADATA, a parameter and one rule,
ID_test.rego with the five tests that a policy should have, suite.yaml and samples/cluster.yaml. It
passes policy check, policy test and policy fmt as it is; change it from there. Nothing is overwritten.`,
		Example: `  evictgate policy new hold_by_label
  evictgate policy new who_may_evict --dir ./policies --effect deny`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := suite.Scaffold(args[0], policies.Effect(effect))
			if err != nil {
				return err
			}
			at := filepath.Join(dir, args[0])
			if err := suite.WriteNew(at, files); err != nil {
				return err
			}
			report.Begun(p, at, args[0], files)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the directory in which the directory ID is made")
	cmd.Flags().StringVar(&effect, "effect", "delay", "what the rule does: delay (429, the client tries again), deny (403) or warn")
	return cmd
}
