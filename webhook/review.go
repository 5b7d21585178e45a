package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

// incoming is what is read of an AdmissionReview; v1beta1 has the same form. It is decoded here, in one
// pass, since controller-runtime's admission.Webhook makes three and reads all of it, which costs as much
// as the policies do; encoding/json alone would take a tenth of a review.
type incoming struct {
	metav1.TypeMeta
	Request struct {
		UID         types.UID
		Kind        metav1.GroupKind
		Resource    metav1.GroupResource
		SubResource string
		Name        string
		Namespace   string
		Operation   admissionv1.Operation
		UserInfo    policies.User
		Object      []byte // JSON
		DryRun      bool
	}
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
	raw, err := readAll(body, size)
	if err != nil {
		return in, fmt.Errorf("read the request: %w", err)
	}
	parser := parsers.Get()
	defer func() {
		if len(raw) <= largeBody {
			parsers.Put(parser)
		}
	}()
	review, err := parser.ParseBytes(raw)
	if err != nil {
		return in, fmt.Errorf("the body is not an AdmissionReview: %w", err)
	}
	if err := in.read(review); err != nil {
		return in, fmt.Errorf("the body is not an AdmissionReview: %w", err)
	}
	gvk := in.GroupVersionKind()
	if gvk.Group != admissionv1.GroupName || gvk.Kind != "AdmissionReview" || (gvk.Version != "v1" && gvk.Version != "v1beta1") {
		return in, fmt.Errorf("the body is not an AdmissionReview of %s, v1 or v1beta1, but has kind %q of %q", admissionv1.GroupName, in.Kind, in.APIVersion)
	}
	return in, nil
}

// readAll reads a body; behind Bounds that is done. What the sender only announces costs no memory: the buffer of a
// large body grows as it arrives.
func readAll(body io.Reader, size int64) ([]byte, error) {
	if read, ok := body.(*whole); ok {
		return read.raw, nil
	}
	raw := bytes.NewBuffer(make([]byte, 0, min(max(size, 0), largeBody)+bytes.MinRead))
	_, err := raw.ReadFrom(body)
	return raw.Bytes(), err
}

// read copies what is wanted of a parsed review, which lives as long as the next one is parsed.
func (in *incoming) read(review *fastjson.Value) error {
	var m members
	in.APIVersion, in.Kind = m.text(review, "apiVersion"), m.text(review, "kind")
	from, to := review.Get("request"), &in.Request
	to.UID = types.UID(m.text(from, "uid"))
	to.Kind = metav1.GroupKind{Group: m.text(from, "kind", "group"), Kind: m.text(from, "kind", "kind")}
	to.Resource = metav1.GroupResource{Group: m.text(from, "resource", "group"), Resource: m.text(from, "resource", "resource")}
	to.SubResource = m.text(from, "subResource")
	to.Name, to.Namespace = m.text(from, "name"), m.text(from, "namespace")
	to.Operation = admissionv1.Operation(m.text(from, "operation"))
	to.UserInfo.Username = m.text(from, "userInfo", "username")
	for i := range m.list(from, "userInfo", "groups") {
		to.UserInfo.Groups = append(to.UserInfo.Groups, m.text(from, "userInfo", "groups", strconv.Itoa(i)))
	}
	to.DryRun = m.flag(from, "dryRun")
	if object := from.Get("object"); object != nil {
		to.Object = object.MarshalTo(nil)
	}
	return m.err
}

// members reads parts of a JSON value by their path; absent and null give the zero value. The first of
// another type is its error.
type members struct{ err error }

// get is nil when there is nothing of the wanted type.
func (m *members) get(v *fastjson.Value, path []string, wanted string, types ...fastjson.Type) *fastjson.Value {
	at := v.Get(path...)
	if at == nil || at.Type() == fastjson.TypeNull {
		return nil
	}
	if !slices.Contains(types, at.Type()) {
		m.err = cmp.Or(m.err, fmt.Errorf("%s is not %s but %s", strings.Join(path, "."), wanted, at.Type()))
		return nil
	}
	return at
}

func (m *members) text(v *fastjson.Value, path ...string) string {
	return string(m.get(v, path, "a string", fastjson.TypeString).GetStringBytes())
}

func (m *members) list(v *fastjson.Value, path ...string) []*fastjson.Value {
	return m.get(v, path, "a list", fastjson.TypeArray).GetArray()
}

func (m *members) flag(v *fastjson.Value, path ...string) bool {
	return m.get(v, path, "true or false", fastjson.TypeTrue, fastjson.TypeFalse).GetBool()
}

// parsers are used again for the memory they have; that of a body larger than largeBody, which no eviction
// is, is given up.
var parsers fastjson.ParserPool

const largeBody = 64 << 10

// request checks that the review is about the creation of an Eviction, strictly, and reduces it. Its
// error is what the sender did wrong.
func (in *incoming) request() (policies.Request, error) {
	if err := in.checkTarget(); err != nil {
		return policies.Request{}, err
	}
	if err := in.checkNames(); err != nil {
		return policies.Request{}, err
	}
	r := &in.Request
	var e eviction
	if err := json.Unmarshal(r.Object, &e); err != nil {
		return policies.Request{}, fmt.Errorf("request.object is not an Eviction: %w", err)
	}
	if err := e.checkSize(); err != nil {
		return policies.Request{}, err
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
