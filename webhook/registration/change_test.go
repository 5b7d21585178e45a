package registration

import (
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

func TestWhatAConfigurationLacks(t *testing.T) {
	fail, ignore := new(admissionregistrationv1.Fail), new(admissionregistrationv1.Ignore)
	for name, c := range map[string]struct {
		owners      []metav1.OwnerReference
		hooks       []admissionregistrationv1.ValidatingWebhook
		terminating bool
		want        *change
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
	} {
		t.Run(name, func(t *testing.T) {
			configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "evictgate", OwnerReferences: c.owners}, Webhooks: c.hooks}
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "evictgate", UID: "new"}}
			if c.terminating {
				namespace.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			}
			got := changeFor(configuration, namespace)
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
