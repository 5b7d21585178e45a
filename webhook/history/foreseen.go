package history

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/evictgate/evictgate/policies"
)

// neverHappens reports whether the API server is known to refuse the eviction behind us, or has nothing to do:
// then nothing is reserved. Should it happen all the same, since the cache was behind, the pod watch counts it.
func neverHappens(in *policies.Input) bool {
	return in.Pod.DeletionTimestamp != nil ||
		(in.Disruption != nil && !in.Disruption.Allowed) ||
		otherVersion(in) || invalidOptions(in.Request.DeleteOptions)
}

// otherVersion reports whether the eviction is of another version of the pod than there is. A version older
// than the cache's is past; a newer one may be the pod's, unless the pod was read live.
func otherVersion(in *policies.Input) bool {
	wanted := wantedVersion(in.Request.DeleteOptions)
	if wanted == "" || wanted == in.Pod.ResourceVersion || versionIgnored(in) {
		return false
	}
	if slices.Contains(in.Confirmed, policies.ConfirmedPod) {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(wanted, in.Pod.ResourceVersion)
	if err != nil { // what is not a version is not the pod's, as long as the pod's own is one
		_, err = resourceversion.CompareResourceVersion(in.Pod.ResourceVersion, in.Pod.ResourceVersion)
		return err == nil
	}
	return order < 0
}

func wantedVersion(o *metav1.DeleteOptions) string {
	if o == nil || o.Preconditions == nil || o.Preconditions.ResourceVersion == nil {
		return ""
	}
	return *o.Preconditions.ResourceVersion
}

// versionIgnored reports whether the API server may put its own version in the place of the client's: it does
// so for pods that are not ready and whose budget lets those go. See EvictionREST.Create in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/registry/core/pod/storage/eviction.go
func versionIgnored(in *policies.Input) bool {
	switch in.Pod.Status.Phase {
	case corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed:
		return false
	}
	return len(in.Budgets) > 0 && !policies.PodReady(in.Pod)
}

// invalidOptions reports whether the API server refuses the options, which it does only when it deletes.
func invalidOptions(o *metav1.DeleteOptions) bool {
	return o != nil && len(validation.ValidateDeleteOptions(o)) > 0
}
