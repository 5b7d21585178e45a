package registration

import (
	"encoding/json"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// change is what a configuration lacks.
type change struct {
	// what says it in the log.
	what string
	// owners are the new ones, all of them, perhaps none; nil leaves them alone.
	owners []metav1.OwnerReference
	// ignore names the webhooks whose failurePolicy becomes Ignore.
	ignore []string
}

// changeFor is what a configuration lacks when that is the namespace it belongs to; nil when it is as it
// should be. Its error says that it does not belong there.
func changeFor(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, namespace *corev1.Namespace) (*change, error) {
	if elsewhere := calledElsewhere(configuration, namespace.Name); elsewhere != "" {
		return nil, fmt.Errorf("it calls Service %s, so it is of an installation in another namespace than %s: name this one's by --webhook-configuration", elsewhere, namespace.Name)
	}
	if namespace.DeletionTimestamp != nil {
		if strict := strictOnes(configuration); len(strict) > 0 {
			return &change{what: "the namespace is being deleted: evictions pass from now on where no replica answers", ignore: strict}, nil
		}
		return nil, nil
	}
	if ByArgoCD(configuration) {
		if owners, changed := freedOf(configuration.OwnerReferences, namespace.Name); changed {
			return &change{what: "the webhook configuration goes with the namespace no more: Argo CD applied it, and would leave behind what has an owner", owners: owners}, nil
		}
		return nil, nil
	}
	if owners, changed := ownedBy(configuration.OwnerReferences, namespace); changed {
		return &change{what: "the webhook configuration now goes with the namespace", owners: owners}, nil
	}
	return nil, nil
}

// calledElsewhere names a Service that is called when none of the namespace is; empty for a configuration that
// calls one of the namespace, or URLs alone.
func calledElsewhere(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, namespace string) string {
	elsewhere := ""
	for _, hook := range configuration.Webhooks {
		service := hook.ClientConfig.Service
		switch {
		case service == nil:
		case service.Namespace == namespace:
			return ""
		default:
			elsewhere = service.Namespace + "/" + service.Name
		}
	}
	return elsewhere
}

// ByArgoCD reports whether Argo CD applied an object: by the marks it tracks its objects by, or as the manager of
// fields, since the label that it tracks by otherwise is everybody's.
func ByArgoCD(o metav1.Object) bool {
	_, annotated := o.GetAnnotations()["argocd.argoproj.io/tracking-id"]
	_, labelled := o.GetLabels()["argocd.argoproj.io/instance"]
	return annotated || labelled || slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "argocd-controller"
	})
}

// isNamespace reports whether an owner is the namespace, or one of its name that is gone.
func isNamespace(owner metav1.OwnerReference, name string) bool {
	return owner.APIVersion == "v1" && owner.Kind == "Namespace" && owner.Name == name
}

// freedOf takes the namespace out of the owners. Other owners stay.
func freedOf(owners []metav1.OwnerReference, namespace string) (list []metav1.OwnerReference, changed bool) {
	list = slices.DeleteFunc(slices.Clone(owners), func(o metav1.OwnerReference) bool { return isNamespace(o, namespace) })
	return list, len(list) < len(owners)
}

// ownedBy puts the namespace among the owners, in the place of one of the same name that is gone. Other
// owners stay.
func ownedBy(owners []metav1.OwnerReference, namespace *corev1.Namespace) (list []metav1.OwnerReference, changed bool) {
	found := false
	for _, owner := range owners {
		if isNamespace(owner, namespace.Name) {
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
			Owners          []metav1.OwnerReference `json:"ownerReferences,omitzero"`
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
