package evictionpolicy

import (
	"fmt"
	"log/slog"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Source is the name of the cluster's EvictionPolicies among the sources of policies.
const Source = "cluster"

// Teller says what becomes of the policies: to the log, the metrics and as Events.
type Teller struct {
	Log     *slog.Logger
	Metrics interface {
		Reloaded(revision string, failed bool)
	}
	Events interface {
		PoliciesUnusable(regarding *corev1.ObjectReference, message string)
	}
	// Configuration is the webhook configuration, which has the Events of sources outside the cluster.
	Configuration string
}

// Change tells of one change; it is for source.Sources.
func (t Teller) Change(c source.Change) {
	revision := "none"
	if c.Set != nil {
		revision = c.Set.Revision()
	}
	failed := c.Err != nil
	if failed {
		t.Log.Error("policies cannot be read", "serving", revision, "error", c.Err.Error())
		t.Events.PoliciesUnusable(t.regarding("", ""), "policies cannot be read: "+c.Err.Error())
	}
	for source, units := range c.Verdicts {
		for unit, v := range units {
			if len(v.Problems) > 0 {
				failed = true
				t.unusable(source, unit, v, revision)
			}
		}
	}
	t.Metrics.Reloaded(revision, failed)
	if c.Swapped {
		t.Log.Info("policies loaded", "revision", revision, "policies", policyNames(c.Set))
	}
}

// unusable tells of a unit that does not serve as it is offered.
func (t Teller) unusable(source, unit string, v source.Verdict, revision string) {
	what := "policies left out"
	if v.Kept {
		what = "policies not reloaded; the last good revision goes on serving"
	}
	t.Log.Error(what, "source", source, "name", unit, "serving", revision, "problems", v.Problems.Error())
	t.Events.PoliciesUnusable(t.regarding(source, unit), fmt.Sprintf("%s: %s: %s", unit, what, v.Problems.Error()))
}

// regarding is the object that has the Event: an EvictionPolicy, or the webhook configuration.
func (t Teller) regarding(source, unit string) *corev1.ObjectReference {
	if name, ok := strings.CutPrefix(unit, v1alpha1.Kind+"/"); ok && source == Source {
		return &corev1.ObjectReference{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.Kind, Name: name}
	}
	// Events about one object and field become a series, which keeps its first text.
	return &corev1.ObjectReference{
		APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration", Name: t.Configuration, FieldPath: unit,
	}
}

func policyNames(set *policies.Set) string {
	var names []string
	for _, b := range set.Policies() {
		names = append(names, b.Name+"="+string(b.Enforcement))
	}
	return strings.Join(names, ",")
}

// Rules are what following them must be allowed: the policies, and what is said of them in their status.
func Rules() []rbacv1.PolicyRule {
	groups := []string{v1alpha1.Group}
	return []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: groups, Resources: []string{v1alpha1.Resource}},
		{Verbs: []string{"patch"}, APIGroups: groups, Resources: []string{v1alpha1.Resource + "/status"}},
	}
}
