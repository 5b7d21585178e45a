package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
)

type checkOptions struct {
	format       string
	strict, rbac bool
}

func newPolicyCheck(p output.Printer) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check PATH...",
		Short: "Compile policies as the server would; exit 1 when there are problems",
		Long: `Compile policies as the server would, and look for what compiles but hardly does what is meant: above
all for a violation that is lost when a part of its message is undefined. PATH is a directory, a file, or -
for stdin.

An error keeps the server from using the policies; a warning does not, and counts for the exit code only
with --strict. What is found goes to stderr; with -o json or yaml it stands in the result instead, as
problems with the keys severity (error or warning), file, row, col (from 1; 0 is not known), message, and,
for an EvictionPolicy, path (the field) and inner_row, inner_col (the place within spec.rego).`,
		Example: `  evictgate policy check ./policies
  evictgate policy check --strict freeze.yaml
  kubectl get evictionpolicy freeze -o yaml | evictgate policy check -
  evictgate policy check --rbac ./policies | kubectl apply -f -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error { return o.check(p, cmd.InOrStdin(), paths) },
	}
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, json or yaml")
	cmd.Flags().BoolVar(&o.strict, "strict", false, "exit 1 when there are warnings, too")
	cmd.Flags().BoolVar(&o.rbac, "rbac", false, "print the ClusterRole that the service account needs, and nothing else, as YAML or JSON")
	addLimits(cmd, confined.DefaultCPU, confined.DefaultMemory)
	return cmd
}

func (o checkOptions) check(p output.Printer, stdin io.Reader, paths []string) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, o.format) {
		return fmt.Errorf("-o is %q; expected table, json or yaml", o.format)
	}
	files, err := source.ReadPathsOrStdin(stdin, paths)
	if err != nil {
		return err
	}
	confined.Files(len(files))
	set, problems := check.Files(files, paths...)
	if err := o.print(p, set, problems); err != nil {
		return err
	}
	if set == nil || o.strict && len(problems) > 0 {
		return errRefused
	}
	return nil
}

func (o checkOptions) print(p output.Printer, set *policies.Set, problems policies.Problems) error {
	var rules []rbacv1.PolicyRule
	if set != nil {
		rules = cluster.RBAC(set.Needs())
	}
	if o.rbac {
		report.Problems(p, problems)
		if set == nil {
			return nil
		}
		return report.Role(p, o.format, rules)
	}
	return report.NewCheck(set, rules, problems).Print(p, o.format)
}
