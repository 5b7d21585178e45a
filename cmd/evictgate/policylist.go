package main

import (
	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/suite"
)

func newPolicyList(p output.Printer) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list [PATH...]",
		Short: "List the policies of PATH, or of the embedded library",
		Example: `  evictgate policy list
  evictgate policy list -o wide ./policies`,
		RunE: func(_ *cobra.Command, paths []string) error {
			if err := oneOf("output", format, "table", "wide", "json", "yaml"); err != nil {
				return err
			}
			list, err := describe(paths)
			if err != nil {
				return err
			}
			return report.Policies(p, format, list)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, wide, json or yaml; the last three tell the parameters")
	addLimits(cmd, confined.DefaultCPU, confined.DefaultMemory)
	return cmd
}

func newPolicyShow(p output.Printer) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "show ID [PATH...]",
		Short: "Show one policy of PATH, or of the embedded library: what it holds, its parameters, an example, messages",
		Example: `  evictgate policy show freeze_window
  evictgate policy show hold_by_label ./policies`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("output", format, "text", "json", "yaml"); err != nil {
				return err
			}
			list, err := describe(args[1:])
			if err != nil {
				return err
			}
			whole, err := report.FindPolicy(list, args[0])
			if err != nil {
				return err
			}
			return whole.Print(p, format)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json or yaml")
	addLimits(cmd, confined.DefaultCPU, confined.DefaultMemory)
	return cmd
}

// describe describes the policies of the paths, or of the library without any.
func describe(paths []string) ([]suite.Description, error) {
	var set *policies.Set
	var err error
	if len(paths) > 0 {
		set, err = loadPaths(paths)
	} else {
		set, err = policies.Library()
	}
	if err != nil {
		return nil, err
	}
	return suite.Describe(set)
}

func loadPaths(paths []string) (*policies.Set, error) {
	files, err := source.ReadPaths(paths...)
	if err != nil {
		return nil, err
	}
	confined.Files(len(files))
	return source.CompileFiles(files, paths...)
}
