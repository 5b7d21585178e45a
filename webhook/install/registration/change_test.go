package registration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func owner(kind, name, uid string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: name, UID: types.UID(uid)}
}

func hook(name string, policy *admissionregistrationv1.FailurePolicyType) admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{Name: name, FailurePolicy: policy}
}

// calls are webhooks by what they call: a Service, as NAMESPACE/NAME, or a URL.
func calls(targets ...string) []admissionregistrationv1.ValidatingWebhook {
	var hooks []admissionregistrationv1.ValidatingWebhook
	for _, target := range targets {
		h := hook(target, nil)
		if namespace, name, _ := strings.Cut(target, "/"); strings.Contains(target, ":") {
			h.ClientConfig.URL = &target
		} else {
			h.ClientConfig.Service = &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: name}
		}
		hooks = append(hooks, h)
	}
	return hooks
}

func TestWhatAConfigurationLacks(t *testing.T) {
	fail, ignore := new(admissionregistrationv1.Fail), new(admissionregistrationv1.Ignore)
	for name, c := range map[string]struct {
		meta        metav1.ObjectMeta
		owners      []metav1.OwnerReference
		hooks       []admissionregistrationv1.ValidatingWebhook
		terminating bool
		want        *change
		err         string
	}{
		"a new one":    {want: &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}}},
		"all is there": {owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}},
		"the namespace was deleted and made anew": {
			owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "old")},
			want:   &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}},
		},
		"the new one is there beside the old one": {
			owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "old"), owner("Namespace", "evictgate", "new")},
			want:   &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}},
		},
		"owners of others stay": {
			owners: []metav1.OwnerReference{owner("Namespace", "platform", "p"), owner("Operator", "evictgate", "o")},
			want: &change{owners: []metav1.OwnerReference{
				owner("Namespace", "platform", "p"), owner("Operator", "evictgate", "o"), owner("Namespace", "evictgate", "new"),
			}},
		},
		"the namespace is being deleted": {
			hooks:       []admissionregistrationv1.ValidatingWebhook{hook("a", fail), hook("b", ignore), hook("c", nil)},
			terminating: true,
			want:        &change{ignore: []string{"a", "c"}},
		},
		"it is, and that is done": {
			owners:      []metav1.OwnerReference{owner("Namespace", "evictgate", "new")},
			hooks:       []admissionregistrationv1.ValidatingWebhook{hook("a", ignore)},
			terminating: true,
		},
		"it is, and the owner is an old one": {
			owners:      []metav1.OwnerReference{owner("Namespace", "evictgate", "old")},
			terminating: true,
		},
		"Argo CD tracks it by an annotation": {meta: metav1.ObjectMeta{Annotations: map[string]string{"argocd.argoproj.io/tracking-id": "evictgate:admissionregistration.k8s.io/ValidatingWebhookConfiguration:evictgate/evictgate"}}},
		"Argo CD tracks it by its own label": {meta: metav1.ObjectMeta{Labels: map[string]string{"argocd.argoproj.io/instance": "evictgate"}}},
		"Argo CD applied it":                 {meta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}, {Manager: "argocd-controller"}}}},
		"Helm applied it": {
			meta: metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/instance": "evictgate"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "helm"}}},
			want: &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}},
		},
		"Argo CD applied it, and we own it": {
			meta:   metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "argocd-controller"}}},
			owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new"), owner("Operator", "evictgate", "o"), owner("Namespace", "evictgate", "old")},
			want:   &change{owners: []metav1.OwnerReference{owner("Operator", "evictgate", "o")}},
		},
		"Argo CD applied it, and nobody else owns it": {
			meta:   metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "argocd-controller"}}},
			owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")},
			want:   &change{owners: []metav1.OwnerReference{}},
		},
		"Argo CD applied it, and the namespace is being deleted": {
			meta:        metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "argocd-controller"}}},
			hooks:       []admissionregistrationv1.ValidatingWebhook{hook("a", fail)},
			terminating: true,
			want:        &change{ignore: []string{"a"}},
		},
		"it calls a Service elsewhere": {hooks: calls("other/evictgate"), err: "it calls Service other/evictgate, so it is of an installation in another namespace than evictgate: name this one's by --webhook-configuration"},
		"it calls a Service elsewhere, and the namespace is being deleted": {
			hooks: calls("https://localhost:1", "other/evictgate"), terminating: true,
			err: "it calls Service other/evictgate, so it is of an installation in another namespace than evictgate: name this one's by --webhook-configuration",
		},
		"it calls one here, too": {hooks: calls("other/evictgate", "evictgate/gate"), want: &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}}},
		"it calls a URL":         {hooks: calls("https://localhost:1"), want: &change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "new")}}},
	} {
		t.Run(name, func(t *testing.T) {
			configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: c.meta, Webhooks: c.hooks}
			configuration.OwnerReferences = c.owners
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "evictgate", UID: "new"}}
			if c.terminating {
				namespace.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			}
			got, err := changeFor(configuration, namespace)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.err {
				t.Fatalf("error %q, want %q", text, c.err)
			}
			if (got != nil) != (c.want != nil) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if got == nil {
				return
			}
			if diff := cmp.Diff([]any{c.want.owners, c.want.ignore}, []any{got.owners, got.ignore}); diff != "" || got.what == "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAPatchIsForOneObjectAsItWasSeen(t *testing.T) {
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: "7"}}
	for name, c := range map[string]struct {
		change change
		kind   types.PatchType
		want   string
	}{
		"owners": {
			change{owners: []metav1.OwnerReference{owner("Namespace", "evictgate", "n")}}, types.MergePatchType,
			`{"metadata":{"uid":"u","resourceVersion":"7","ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"evictgate","uid":"n"}]}}`,
		},
		"no owners": {
			change{owners: []metav1.OwnerReference{}}, types.MergePatchType,
			`{"metadata":{"uid":"u","resourceVersion":"7","ownerReferences":[]}}`,
		},
		"failure policies": {
			change{ignore: []string{"a", "b"}}, types.StrategicMergePatchType,
			`{"metadata":{"uid":"u","resourceVersion":"7"},"webhooks":[{"name":"a","failurePolicy":"Ignore"},{"name":"b","failurePolicy":"Ignore"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			kind, got, err := c.change.patch(configuration)
			if err != nil || kind != c.kind || string(got) != c.want {
				t.Errorf("%s %s (%v), want %s %s", kind, got, err, c.kind, c.want)
			}
		})
	}
}
