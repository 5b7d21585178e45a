package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
)

type checkOptions struct {
	format       string
	strict, rbac bool
}

func newPolicyCheck(p printer) *cobra.Command {
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

// checked is the result of a check as data.
type checked struct {
	Revision string                 `json:"revision"`
	Policies []policies.BoundPolicy `json:"policies"`
	// Reads are the paths of the input that the set reads.
	Reads []string `json:"reads"`
	// RBAC is what the service account must be allowed so that they can be gathered.
	RBAC     []rbacv1.PolicyRule `json:"rbac"`
	Problems policies.Problems   `json:"problems"`
}

func (o checkOptions) check(p printer, stdin io.Reader, paths []string) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, o.format) {
		return fmt.Errorf("-o is %q; expected table, json or yaml", o.format)
	}
	files, err := readPolicies(stdin, paths)
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

func (o checkOptions) print(p printer, set *policies.Set, problems policies.Problems) error {
	result := checked{Policies: []policies.BoundPolicy{}, Reads: []string{}, RBAC: []rbacv1.PolicyRule{}, Problems: append(policies.Problems{}, problems...)}
	if set != nil {
		result.Revision, result.Policies, result.Reads, result.RBAC = set.Revision(), set.Policies(), set.Refs(), cluster.RBAC(set.Needs())
	}
	if o.rbac {
		p.problems(problems)
		return o.printRole(p, set, result.RBAC)
	}
	if done, err := p.structured(o.format, result); done {
		return err
	}
	p.problems(problems)
	if set == nil {
		return nil
	}
	p.printf("%d %s, revision %s\nreads:\n", len(result.Policies), pluralPolicy(len(result.Policies)), result.Revision)
	for _, ref := range result.Reads {
		p.printf("  %s\n", ref)
	}
	p.printf("needs get, list and watch on:\n")
	for _, rule := range result.RBAC {
		p.printf("  %s\n", resourcesOf(rule))
	}
	return nil
}

// resourcesOf is a rule in one line, such as "apps: deployments, replicasets".
func resourcesOf(rule rbacv1.PolicyRule) string {
	group := rule.APIGroups[0]
	if group == "" {
		group = "core"
	}
	return group + ": " + strings.Join(rule.Resources, ", ")
}

// printRole prints a manifest for kubectl apply.
func (o checkOptions) printRole(p printer, set *policies.Set, rules []rbacv1.PolicyRule) error {
	if set == nil {
		return nil
	}
	format := o.format
	if format == "table" {
		format = "yaml"
	}
	_, err := p.structured(format, rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "evictgate-gather"},
		Rules:      rules,
	})
	return err
}

// readPolicies reads the sources of paths; - is stdin, once.
func readPolicies(stdin io.Reader, paths []string) ([]policies.File, error) {
	rest := slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return path == "-" })
	files, err := source.ReadPaths(rest...)
	if err != nil || len(rest) == len(paths) {
		return files, err
	}
	if len(rest) < len(paths)-1 {
		return nil, errors.New("- stands for stdin and can be given once")
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("read policies from stdin: %w", err)
	}
	return append(files, policies.File{Name: "stdin" + kindOfSource(data), Data: data}), nil
}

// kindOfSource is the extension that a source without a name would have: a Rego module begins with its
// package, after comments.
func kindOfSource(data []byte) string {
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			if strings.HasPrefix(line, "package ") {
				return ".rego"
			}
			break
		}
	}
	return ".yaml"
}
