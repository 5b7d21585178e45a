package report

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
)

// Check is the result of a check.
type Check struct {
	Revision string                 `json:"revision"`
	Policies []policies.BoundPolicy `json:"policies"`
	// Reads are the paths of the input that the set reads.
	Reads []string `json:"reads"`
	// RBAC is what the service account must be allowed so that they can be gathered.
	RBAC     []rbacv1.PolicyRule `json:"rbac"`
	Problems policies.Problems   `json:"problems"`

	compiles bool
}

// NewCheck is the result of a check of a set, whose gathering needs these rules; the set is nil when it does not compile.
func NewCheck(set *policies.Set, rules []rbacv1.PolicyRule, problems policies.Problems) Check {
	c := Check{Policies: []policies.BoundPolicy{}, Reads: []string{}, RBAC: []rbacv1.PolicyRule{}, Problems: append(policies.Problems{}, problems...)}
	if set != nil {
		c.Revision, c.Policies, c.Reads, c.RBAC, c.compiles = set.Revision(), set.Policies(), set.Refs(), rules, true
	}
	return c
}

// Print prints it; problems go to p.Err, unless they stand in the data.
func (c Check) Print(p output.Printer, format string) error {
	if done, err := p.Structured(format, c); done {
		return err
	}
	Problems(p, c.Problems)
	if !c.compiles {
		return nil
	}
	p.Printf("%d %s, revision %s\nreads:\n", len(c.Policies), output.OneOrMany("policy", "policies", len(c.Policies)), c.Revision)
	for _, ref := range c.Reads {
		p.Printf("  %s\n", ref)
	}
	p.Printf("needs get, list and watch on:\n")
	for _, rule := range c.RBAC {
		p.Printf("  %s\n", resourcesOf(rule))
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

// Role prints a ClusterRole with these rules for kubectl apply, as YAML or JSON.
func Role(p output.Printer, format string, rules []rbacv1.PolicyRule) error {
	if format == "table" {
		format = "yaml"
	}
	_, err := p.Structured(format, rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "evictgate-gather"},
		Rules:      rules,
	})
	return err
}
