package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/output"
	"github.com/evictgate/evictgate/policies"
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
			begun(p, at, args[0], files)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the directory in which the directory ID is made")
	cmd.Flags().StringVar(&effect, "effect", "delay", "what the rule does: delay (429, the client tries again), deny (403) or warn")
	return cmd
}

// begun tells what was written, and what to do next.
func begun(p output.Printer, dir, id string, files []policies.File) {
	p.Printf("made\n")
	for _, f := range files {
		p.Printf("  %s\n", filepath.Join(dir, f.Name))
	}
	p.Printf("next\n")
	for _, line := range []string{
		"say in " + filepath.Join(dir, id+".rego") + " what it holds, and change its rule and its tests",
		"evictgate policy test " + dir,
		"evictgate policy check " + dir,
		"evictgate policy eval --policies " + dir + " --snapshot cluster.yaml --explain NAMESPACE/POD",
		"evictgate serve --policies " + dir,
	} {
		p.Printf("  %s\n", line)
	}
}
