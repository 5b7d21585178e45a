package cluster

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/policies"
)

// Each kind has a place of its own, and the names by which the API server knows it.
func TestKinds(t *testing.T) {
	s, places := &Store{}, map[*cache.Indexer]string{}
	for _, k := range kinds {
		resource, _ := apimeta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: k.group, Kind: k.name})
		if resource.Resource != k.resource {
			t.Errorf("%s has the resource %s, want %s", k.name, k.resource, resource.Resource)
		}
		if k.indexer == nil { // budgets have an index of their own
			continue
		}
		if other := places[k.indexer(s)]; other != "" {
			t.Errorf("%s is kept where %s is", k.name, other)
		}
		places[k.indexer(s)] = k.name
	}
}

// What a cluster has of each kind is read where decisions look for it, and from the API server.
func TestEachKindIsRead(t *testing.T) {
	var objects []runtime.Object
	for _, k := range kinds {
		object := k.object.DeepCopyObject()
		object.(metav1.Object).SetName("x")
		object.(metav1.Object).SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl"}})
		objects = append(objects, object)
	}
	client := fake.NewClientset(objects...)
	live, err := ReadLive(t.Context(), client, policies.EverythingNeeded())
	if err != nil || live.Objects != len(kinds) || live.Skipped != 0 {
		t.Fatalf("%d objects, %d skipped, %v", live.Objects, live.Skipped, err)
	}
	for _, k := range kinds {
		object, err := Client{client}.Object(t.Context(), k.name, "", "x")
		if err != nil || reflect.TypeOf(object) != reflect.TypeOf(k.object) || object.(metav1.Object).GetManagedFields() != nil {
			t.Errorf("%s: %T, %v", k.name, object, err)
		}
		if k.indexer == nil {
			continue
		}
		if kept, known, err := (*k.indexer(live.Store)).GetByKey("x"); !known || err != nil || reflect.TypeOf(kept) != reflect.TypeOf(k.object) {
			t.Errorf("%s: kept is %T, %v", k.name, kept, err)
		}
	}
}

// Volumes are asked for only by policies that read them.
func TestRBACFollowsWhatIsRead(t *testing.T) {
	rule := func(group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{group}, Resources: resources}
	}
	always := []rbacv1.PolicyRule{
		rule("", "pods", "namespaces", "nodes", "replicationcontrollers"),
		rule("apps", "replicasets", "deployments", "statefulsets", "daemonsets"),
		rule("batch", "jobs", "cronjobs"),
		rule("policy", "poddisruptionbudgets"),
	}
	volumes := []string{"persistentvolumeclaims", "persistentvolumes"}
	for name, tt := range map[string]struct {
		needs *policies.Needs
		more  []string
	}{
		"nothing is read":         {&policies.Needs{}, nil},
		"the pod is read":         {reading(t, "input.pod"), nil},
		"claims are read":         {reading(t, "input.claims"), volumes},
		"the whole input is read": {policies.EverythingNeeded(), volumes},
	} {
		t.Run(name, func(t *testing.T) {
			want := append([]rbacv1.PolicyRule{rule("", append([]string{"pods", "namespaces", "nodes", "replicationcontrollers"}, tt.more...)...)}, always[1:]...)
			if diff := cmp.Diff(want, RBAC(tt.needs)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
