package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

// incoming is what is read of an AdmissionReview; v1beta1 has the same form. It is decoded here, in one
// pass, since controller-runtime's admission.Webhook makes three and reads all of it, which costs as much
// as the policies do.
type incoming struct {
	metav1.TypeMeta
	Request struct {
		UID         types.UID                   `json:"uid"`
		Kind        metav1.GroupVersionKind     `json:"kind"`
		Resource    metav1.GroupVersionResource `json:"resource"`
		SubResource string                      `json:"subResource"`
		Name        string                      `json:"name"`
		Namespace   string                      `json:"namespace"`
		Operation   admissionv1.Operation       `json:"operation"`
		UserInfo    policies.User               `json:"userInfo"`
		Object      json.RawMessage             `json:"object"`
		DryRun      bool                        `json:"dryRun"`
	} `json:"request"`
}

// eviction is what is read of the Eviction in a review. The API server always sends policy/v1, also
// for a posted policy/v1beta1.
type eviction struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	DeleteOptions *metav1.DeleteOptions `json:"deleteOptions"`
}

// decode reads an AdmissionReview. Its error is what the sender did wrong.
func decode(body io.Reader, size int64) (incoming, error) {
	var in incoming
	raw := bytes.NewBuffer(make([]byte, 0, max(size, 0)+bytes.MinRead))
	if _, err := raw.ReadFrom(body); err != nil {
		return in, fmt.Errorf("read the request: %w", err)
	}
	if err := json.Unmarshal(raw.Bytes(), &in); err != nil {
		return in, fmt.Errorf("the body is not an AdmissionReview: %w", err)
	}
	gvk := in.GroupVersionKind()
	if gvk.Group != admissionv1.GroupName || gvk.Kind != "AdmissionReview" || (gvk.Version != "v1" && gvk.Version != "v1beta1") {
		return in, fmt.Errorf("the body is not an AdmissionReview of %s, v1 or v1beta1, but has kind %q of %q", admissionv1.GroupName, in.Kind, in.APIVersion)
	}
	return in, nil
}

// request checks that the review is about the creation of an Eviction, strictly, and reduces it. Its
// error is what the sender did wrong.
func (in *incoming) request() (policies.Request, error) {
	if err := in.checkTarget(); err != nil {
		return policies.Request{}, err
	}
	r := &in.Request
	var e eviction
	if err := json.Unmarshal(r.Object, &e); err != nil {
		return policies.Request{}, fmt.Errorf("request.object is not an Eviction: %w", err)
	}
	return policies.Request{
		UID: string(r.UID), Namespace: r.Namespace, Name: r.Name,
		User: r.UserInfo,
		// request.dryRun shows only ?dryRun=All; kubectl drain --dry-run=server states it in the
		// delete options alone.
		DryRun:        r.DryRun || (e.DeleteOptions != nil && len(e.DeleteOptions.DryRun) > 0),
		Annotations:   e.Metadata.Annotations,
		DeleteOptions: e.DeleteOptions,
	}, nil
}

// checkTarget matches the group strictly: lifecycle.k8s.io has a kind Eviction, too.
func (in *incoming) checkTarget() error {
	r := &in.Request
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
	case len(r.Object) == 0 || string(r.Object) == "null":
		return errors.New("the request has no object")
	}
	return nil
}
