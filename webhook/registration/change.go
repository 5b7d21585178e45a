package registration

import (
	"encoding/json"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// change is what a configuration lacks.
type change struct {
	// what says it in the log.
	what string
	// owners are the new ones, all of them; nil leaves them alone.
	owners []metav1.OwnerReference
	// ignore names the webhooks whose failurePolicy becomes Ignore.
	ignore []string
}

// changeFor is what a configuration lacks when that is the namespace it belongs to; nil when it is as it
// should be.
func changeFor(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, namespace *corev1.Namespace) *change {
	if namespace.DeletionTimestamp != nil {
		if strict := strictOnes(configuration); len(strict) > 0 {
			return &change{what: "the namespace is being deleted: evictions pass from now on where no replica answers", ignore: strict}
		}
		return nil
	}
	if owners, changed := ownedBy(configuration.OwnerReferences, namespace); changed {
		return &change{what: "the webhook configuration now goes with the namespace", owners: owners}
	}
	return nil
}

// ownedBy puts the namespace among the owners, in the place of one of the same name that is gone. Other
// owners stay.
func ownedBy(owners []metav1.OwnerReference, namespace *corev1.Namespace) (list []metav1.OwnerReference, changed bool) {
	found := false
	for _, owner := range owners {
		if owner.APIVersion == "v1" && owner.Kind == "Namespace" && owner.Name == namespace.Name {
			if owner.UID != namespace.UID {
				changed = true
				continue
			}
			found = true
		}
		list = append(list, owner)
	}
	if found {
		return list, changed
	}
	return append(list, metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: namespace.Name, UID: namespace.UID}), true
}

// strictOnes names the webhooks that refuse what they cannot decide.
func strictOnes(configuration *admissionregistrationv1.ValidatingWebhookConfiguration) []string {
	var names []string
	for _, hook := range configuration.Webhooks {
		if hook.FailurePolicy == nil || *hook.FailurePolicy == admissionregistrationv1.Fail {
			names = append(names, hook.Name)
		}
	}
	return names
}

// patch makes what is sent. UID and resourceVersion see to it that nothing but the configuration that was
// looked at is changed, and only as it was.
func (c *change) patch(configuration *admissionregistrationv1.ValidatingWebhookConfiguration) (types.PatchType, []byte, error) {
	type webhook struct {
		Name          string                                    `json:"name"`
		FailurePolicy admissionregistrationv1.FailurePolicyType `json:"failurePolicy"`
	}
	var p struct {
		Metadata struct {
			UID             types.UID               `json:"uid"`
			ResourceVersion string                  `json:"resourceVersion"`
			Owners          []metav1.OwnerReference `json:"ownerReferences,omitempty"`
		} `json:"metadata"`
		Webhooks []webhook `json:"webhooks,omitempty"`
	}
	p.Metadata.UID, p.Metadata.ResourceVersion, p.Metadata.Owners = configuration.UID, configuration.ResourceVersion, c.owners
	for _, name := range c.ignore {
		p.Webhooks = append(p.Webhooks, webhook{name, admissionregistrationv1.Ignore})
	}
	kind := types.MergePatchType // takes a list as a whole
	if len(p.Webhooks) > 0 {
		kind = types.StrategicMergePatchType // knows a webhook in the list by its name
	}
	raw, err := json.Marshal(p)
	return kind, raw, err
}
