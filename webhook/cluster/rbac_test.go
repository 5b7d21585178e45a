package cluster

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/evictgate/evictgate/policies"
)

// TestRBACIsWhatIsWatched holds the rules that `policy check` prints to the informers.
func TestRBACIsWhatIsWatched(t *testing.T) {
	for name, tt := range map[string]struct {
		needs   *policies.Needs
		watched func(runtime.Object) bool
	}{
		"everything is read": {policies.EverythingNeeded(), func(runtime.Object) bool { return true }},
		"nothing is read":    {&policies.Needs{}, func(kind runtime.Object) bool { return !isOptional(kind) }},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, kind := range kinds() {
				if tt.watched(kind) {
					want = append(want, resourceOf(t, kind))
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, resourcesIn(tt.needs.RBAC())); diff != "" {
				t.Errorf("-watched +allowed:\n%s", diff)
			}
		})
	}
}

func resourceOf(t *testing.T, kind runtime.Object) string {
	t.Helper()
	gvks, _, err := scheme.Scheme.ObjectKinds(kind)
	if err != nil {
		t.Fatal(err)
	}
	resource, _ := apimeta.UnsafeGuessKindToResource(gvks[0])
	return resource.GroupResource().String()
}

func resourcesIn(rules []rbacv1.PolicyRule) []string {
	var resources []string
	for _, r := range rules {
		for _, resource := range r.Resources {
			if r.APIGroups[0] != "" {
				resource += "." + r.APIGroups[0]
			}
			resources = append(resources, resource)
		}
	}
	slices.Sort(resources)
	return resources
}
