package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
)

func newPolicy(p printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at policies and check them, as the server would",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyCheck(p), newPolicyList(p))
	return cmd
}

func pluralPolicy(n int) string {
	if n == 1 {
		return "policy"
	}
	return "policies"
}

func newPolicyList(p printer) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list [PATH...]",
		Short: "List the policies of PATH, or of the embedded library",
		RunE: func(_ *cobra.Command, paths []string) error {
			rows, err := listPolicies(paths)
			if err != nil {
				return err
			}
			if done, err := p.structured(format, rows); done {
				return err
			}
			var cells [][]string
			for _, r := range rows {
				cells = append(cells, []string{r.Name, string(r.Enforcement), strconv.FormatBool(r.Default), r.Title})
			}
			return p.table([]string{"NAME", "ENFORCEMENT", "DEFAULT", "TITLE"}, cells)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func listPolicies(paths []string) ([]policies.BoundPolicy, error) {
	if len(paths) > 0 {
		set, err := policies.Load(paths...)
		if err != nil {
			return nil, err
		}
		return set.Policies(), nil
	}
	set, err := policies.Library()
	if err != nil {
		return nil, err
	}
	return set.Policies(), nil
}
