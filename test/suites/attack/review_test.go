package attack

import (
	"encoding/json"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// review is what of a review makes a difference to an attack.
type review struct {
	UID, Namespace, Pod, User string
	Groups                    []string
	// Pad is how many bytes an annotation of the Eviction has, Keys how many small annotations there are.
	Pad, Keys   int
	Annotations map[string]string
}

// body is what the API server sends.
func (r review) body() []byte {
	kind := metav1.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	annotations := map[string]string{}
	for k, v := range r.Annotations {
		annotations[k] = v
	}
	if r.Pad > 0 {
		annotations["example.com/pad"] = strings.Repeat("x", r.Pad)
	}
	object := encode(policyv1.Eviction{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Pod, Annotations: annotations},
	})
	dryRun := false
	return encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID(r.UID), Operation: admissionv1.Create, Namespace: r.Namespace, Name: r.Pod,
			Kind: kind, RequestKind: &kind, Resource: resource, SubResource: "eviction",
			RequestResource: &resource, RequestSubResource: "eviction",
			UserInfo: authenticationv1.UserInfo{Username: r.User, Groups: r.Groups},
			Object:   runtime.RawExtension{Raw: object}, DryRun: &dryRun,
			Options: runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
		},
	})
}

// encode is for values that can always be encoded.
func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// answer is what of an answer clients see: that it was admitted, or by which code it was not.
type answer struct {
	Allowed bool
	Code    int32
	// Undecided are answers in place of a decision.
	Undecided bool
	Message   string
}

func (a answer) String() string {
	if a.Allowed {
		return "admitted"
	}
	return fmt.Sprintf("%d %.200s", a.Code, a.Message)
}

// read takes an answer apart; the error says what is wrong with it.
func readAnswer(uid string, raw []byte) (answer, error) {
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &r); err != nil || r.Response == nil {
		return answer{}, fmt.Errorf("not an answer to a review: %.200q", raw)
	}
	if string(r.Response.UID) != uid {
		return answer{}, fmt.Errorf("the answer is to review %q, asked was %q", r.Response.UID, uid)
	}
	a := answer{Allowed: r.Response.Allowed, Undecided: r.Response.AuditAnnotations["outcome"] == "undecided"}
	if r.Response.Result != nil {
		a.Code, a.Message = r.Response.Result.Code, r.Response.Result.Message
	}
	return a, nil
}
