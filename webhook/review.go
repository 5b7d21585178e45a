package webhook

import (
	"encoding/json"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/evictgate/evictgate/policies"
)

// eviction is what is read of the Eviction in a review. The API server always sends policy/v1, also
// for a posted policy/v1beta1.
type eviction struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	DeleteOptions *metav1.DeleteOptions `json:"deleteOptions"`
}

// parse checks that the request is the creation of an Eviction, strictly, and reduces it. Its error is
// what the sender did wrong.
func parse(r *admission.Request) (policies.Request, error) {
	if err := checkTarget(r); err != nil {
		return policies.Request{}, err
	}
	var e eviction
	if err := json.Unmarshal(r.Object.Raw, &e); err != nil {
		return policies.Request{}, fmt.Errorf("request.object is not an Eviction: %w", err)
	}
	return policies.Request{
		UID: string(r.UID), Namespace: r.Namespace, Name: r.Name,
		User:    policies.User{Username: r.UserInfo.Username, Groups: r.UserInfo.Groups},
		Evictor: policies.Evictor(r.UserInfo.Username),
		// request.dryRun shows only ?dryRun=All; kubectl drain --dry-run=server states it in the
		// delete options alone.
		DryRun:        (r.DryRun != nil && *r.DryRun) || (e.DeleteOptions != nil && len(e.DeleteOptions.DryRun) > 0),
		Annotations:   e.Metadata.Annotations,
		DeleteOptions: e.DeleteOptions,
	}, nil
}

// checkTarget matches the group strictly: lifecycle.k8s.io has a kind Eviction, too.
func checkTarget(r *admission.Request) error {
	switch {
	case r.UID == "":
		return errors.New("the body is not an AdmissionReview with a request: request.uid is empty")
	case r.Kind.Group != "policy" || r.Kind.Kind != "Eviction":
		return fmt.Errorf("expected an Eviction of group policy, got kind %q of group %q", r.Kind.Kind, r.Kind.Group)
	case r.Resource.Group != "" || r.Resource.Resource != "pods" || r.SubResource != "eviction":
		return fmt.Errorf("expected the resource pods/eviction, got %q of group %q", r.Resource.Resource+"/"+r.SubResource, r.Resource.Group)
	case r.Operation != admissionv1.Create:
		return fmt.Errorf("expected the operation CREATE, got %q", r.Operation)
	case r.Namespace == "" || r.Name == "":
		return errors.New("the request names no pod: request.namespace or request.name is empty")
	case len(r.Object.Raw) == 0 || string(r.Object.Raw) == "null":
		return errors.New("the request has no object")
	}
	return nil
}
