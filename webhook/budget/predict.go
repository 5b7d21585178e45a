package budget

import (
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Eviction is a request to evict a pod: what stands in the URL and the object that was posted.
type Eviction struct {
	// Namespace and Name are those of the URL.
	Namespace, Name string
	// QueryDryRun are the values of ?dryRun=.
	QueryDryRun []string
	Object      *policyv1.Eviction
}

// Cases of Predict beyond those of Check.
const (
	// Mismatch: the Eviction's name or namespace is not that of the URL.
	Mismatch Case = "mismatch"
	// InvalidOptions: the delete options are not valid, or contradict the query.
	InvalidOptions Case = "invalid-options"
	// NotFound: there is no such pod.
	NotFound Case = "not-found"
	// Precondition: the pod is not the one that the delete options ask for.
	Precondition Case = "precondition"
)

// Predict is the API server's whole answer to an eviction as a pure function of the pod (nil when
// there is none) and of the budgets of its namespace, from the moment it has decoded the request, as if
// no admission plugin refused it. Failures of storage, conflicts between parallel evictions and
// admission of the budget's status are outside. Source: EvictionREST.Create in
// k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go, v1.37.
func Predict(e Eviction, pod *corev1.Pod, budgets []*policyv1.PodDisruptionBudget) Answer {
	options, refused := acceptOptions(e)
	switch {
	case refused != nil:
		return *refused
	case pod == nil:
		return failed(NotFound, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, e.Name))
	}
	matching := Matching(budgets, pod)
	check := Check(pod, matching)
	switch check.Case {
	case Ignored:
		return remove(check, options, pod, "")
	case Unhealthy:
		return remove(check, options, pod, matching[0].Name)
	}
	if !check.Allowed() {
		return check
	}
	return remove(check, options, pod, "")
}

// Matching lists the budgets that select the pod. A nil or unparsable selector selects nothing.
func Matching(budgets []*policyv1.PodDisruptionBudget, pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	var matching []*policyv1.PodDisruptionBudget
	for _, b := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && b.Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			matching = append(matching, b)
		}
	}
	return matching
}

// acceptOptions is what the API server checks before it reads the pod; it returns the delete options
// in force.
func acceptOptions(e Eviction) (*metav1.DeleteOptions, *Answer) {
	refuse := func(c Case, err *apierrors.StatusError) (*metav1.DeleteOptions, *Answer) {
		a := failed(c, err)
		return nil, &a
	}
	options := &metav1.DeleteOptions{}
	if e.Object.DeleteOptions != nil {
		options = e.Object.DeleteOptions.DeepCopy()
	}
	ignored := options.IgnoreStoreReadErrorWithClusterBreakingPotential
	switch {
	case e.Object.Namespace != "" && e.Object.Namespace != e.Namespace:
		return refuse(Mismatch, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request"))
	case e.Object.Name != e.Name:
		return refuse(Mismatch, apierrors.NewBadRequest("name in URL does not match name in Eviction object"))
	case ignored != nil && *ignored:
		path := field.NewPath("deleteOptions").Child("ignoreStoreReadErrorWithClusterBreakingPotential")
		return refuse(InvalidOptions, apierrors.NewInvalid(schema.GroupKind{Group: "policy", Kind: "Eviction"}, e.Name,
			field.ErrorList{field.Invalid(path, true, "can not be set for pod eviction, try after removing the option")}))
	case len(options.DryRun) > 0 && len(e.QueryDryRun) > 0 && !slices.Equal(options.DryRun, e.QueryDryRun):
		return nil, &Answer{
			Case: InvalidOptions, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", e.QueryDryRun, options.DryRun),
		}
	}
	if len(options.DryRun) == 0 {
		options.DryRun = e.QueryDryRun
	}
	return options, nil
}

// remove is the deletion that follows a budget's consent. The pod that goes because it is not ready
// must still be the one that was looked at: budget names the one that let it go.
func remove(check Answer, options *metav1.DeleteOptions, pod *corev1.Pod, budget string) Answer {
	asked := preconditions(options)
	enforced := asked
	if check.Case == Unhealthy {
		// The client's own resourceVersion is overwritten.
		enforced.ResourceVersion = &pod.ResourceVersion
	}
	err := deletable(options, enforced, pod)
	switch {
	case err == nil:
		return allowed(check.Case)
	case apierrors.IsConflict(err) && check.Case == Unhealthy && asked.ResourceVersion == nil:
		// A conflict is told as a busy budget, so that clients retry; also a wrong UID.
		return processing(budget)
	}
	c := Precondition
	if apierrors.IsInvalid(err) {
		c = InvalidOptions
	}
	return failed(c, err)
}

func preconditions(o *metav1.DeleteOptions) metav1.Preconditions {
	if o.Preconditions == nil {
		return metav1.Preconditions{}
	}
	return *o.Preconditions
}

// deletable checks in the API server's order: for a real eviction, the preconditions are first compared
// when the pod's condition DisruptionTarget is written, where an empty one counts as none.
func deletable(options *metav1.DeleteOptions, p metav1.Preconditions, pod *corev1.Pod) *apierrors.StatusError {
	dryRun := len(options.DryRun) > 0
	if !dryRun && given(p.UID) && *p.UID != pod.UID {
		return wrongUID(*p.UID, pod)
	}
	if !dryRun && p.ResourceVersion != nil && *p.ResourceVersion != "" && *p.ResourceVersion != pod.ResourceVersion {
		return wrongVersion(*p.ResourceVersion, pod)
	}
	if errs := validation.ValidateDeleteOptions(options); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	if p.UID != nil && *p.UID != pod.UID {
		return wrongUID(*p.UID, pod)
	}
	// After the condition was written, the resourceVersion is that of the write.
	if dryRun && p.ResourceVersion != nil && *p.ResourceVersion != pod.ResourceVersion {
		return wrongVersion(*p.ResourceVersion, pod)
	}
	return nil
}

func given(uid *types.UID) bool { return uid != nil && *uid != "" }

func wrongUID(uid types.UID, pod *corev1.Pod) *apierrors.StatusError {
	return conflict(pod, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", uid, pod.UID))
}

func wrongVersion(version string, pod *corev1.Pod) *apierrors.StatusError {
	return conflict(pod, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", version, pod.ResourceVersion))
}

func conflict(pod *corev1.Pod, why error) *apierrors.StatusError {
	return apierrors.NewConflict(schema.GroupResource{Resource: "Pod"}, pod.Name, why)
}

// failed turns an API error into an answer.
func failed(c Case, err *apierrors.StatusError) Answer {
	s := err.Status()
	a := Answer{Case: c, Code: s.Code, Reason: s.Reason, Message: s.Message}
	if s.Details != nil {
		a.Causes, a.RetryAfter = s.Details.Causes, s.Details.RetryAfterSeconds
	}
	return a
}
