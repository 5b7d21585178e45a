// Package registration ties the webhook configuration to the installation, so that it cannot be left behind
// and block every drain.
//
// A ValidatingWebhookConfiguration lies outside of namespaces: who deletes the namespace deletes the webhook's
// pods, and with failurePolicy Fail no eviction passes any more. So the replicas make the namespace the owner of
// the configuration, and Kubernetes' garbage collector removes it after the namespace. Until then, from the
// moment that the namespace is being deleted, failurePolicy is Ignore.
//
// What the package relies on:
//
//   - A namespace can own what lies in no namespace, being such an object itself.
//   - kubectl apply, on either side, and helm upgrade leave owners alone that their manifests never named.
//   - Argo CD, deleting an Application, leaves what has an owner to the garbage collector. The namespace often
//     is none of the Application's objects and stays, and the configuration would stay with it, without a
//     replica. So what Argo CD applied gets no owner: https://github.com/argoproj/argo-cd/issues/4764
//   - A namespace that was deleted and made anew has another UID, and to the garbage collector a configuration
//     that names the old one only has no owner. It deletes what it has judged only as it was then, unless the
//     owners are still the same, so a replica that names the new owner in time wins:
//     https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/garbagecollector/operations.go
package registration
