package main

import (
	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
)

func newPolicy(p output.Printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at policies, check, test and explain them, as the server would",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyCheck(p), newPolicyTest(p), newPolicyEval(p), newPolicyFmt(p), newPolicyNew(p), newPolicyList(p), newPolicyShow(p))
	return cmd
}
