package webhook

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
)

// TestDecodeReadsWhatTheAPIServerWrote compares with the review that was encoded, and reads another one
// before that, since what was read must not live in the memory of the parser.
func TestDecodeReadsWhatTheAPIServerWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "web-0", "é\t\"\\<&>\u2028", "\x00"}))
		one := review("web", func(r *admissionv1.AdmissionReview) {
			q := r.Request
			q.UID = types.UID(text.Draw(t, "uid"))
			q.Kind = metav1.GroupVersionKind{Group: text.Draw(t, "group"), Version: "v1", Kind: text.Draw(t, "kind")}
			q.Resource = metav1.GroupVersionResource{Group: text.Draw(t, "group"), Version: "v1", Resource: text.Draw(t, "resource")}
			q.SubResource, q.Name, q.Namespace = text.Draw(t, "subresource"), text.Draw(t, "name"), text.Draw(t, "namespace")
			q.Operation = admissionv1.Operation(text.Draw(t, "operation"))
			q.UserInfo = authenticationv1.UserInfo{
				Username: text.Draw(t, "user"), Groups: rapid.SliceOfN(text, 0, 3).Draw(t, "groups"),
				Extra: map[string]authenticationv1.ExtraValue{"k": {text.Draw(t, "extra")}},
			}
			q.DryRun = rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(t, "dry run")
		})
		var sent admissionv1.AdmissionReview
		if err := json.Unmarshal(one, &sent); err != nil {
			t.Fatalf("unmarshal: %v", err)
		}
		got, err := decode(bytes.NewReader(one), int64(len(one)))
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		other := bytes.ReplaceAll(one, []byte("a"), []byte("b"))
		_, _ = decode(bytes.NewReader(other), int64(len(other)))
		q := sent.Request
		want := incoming{TypeMeta: sent.TypeMeta}
		want.Request.UID, want.Request.SubResource, want.Request.Name, want.Request.Namespace = q.UID, q.SubResource, q.Name, q.Namespace
		want.Request.Kind = metav1.GroupKind{Group: q.Kind.Group, Kind: q.Kind.Kind}
		want.Request.Resource = metav1.GroupResource{Group: q.Resource.Group, Resource: q.Resource.Resource}
		want.Request.Operation, want.Request.Object = q.Operation, q.Object.Raw
		want.Request.UserInfo = policies.User{Username: q.UserInfo.Username, Groups: q.UserInfo.Groups}
		want.Request.DryRun = q.DryRun != nil && *q.DryRun
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

func TestDecodeNamesWhatHasAWrongType(t *testing.T) {
	for request, want := range map[string]string{
		`{"uid": 7}`:                           "uid is not a string but number",
		`{"kind": {"group": ["policy"]}}`:      "kind.group is not a string but array",
		`{"userInfo": {"groups": "ops"}}`:      "userInfo.groups is not a list but string",
		`{"userInfo": {"groups": [{"a": 1}]}}`: "userInfo.groups.0 is not a string but object",
		`{"dryRun": "true"}`:                   "dryRun is not true or false but string",
		`{"dryRun": null, "uid": null}`:        "",
	} {
		body := `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": ` + request + `}`
		_, err := decode(strings.NewReader(body), int64(len(body)))
		if (err == nil) != (want == "") || (err != nil && !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", request, err, want)
		}
	}
}

func TestASizeThatIsOnlyAnnouncedCostsNoMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decode(strings.NewReader("{"), maxBody)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; err == nil || taken > maxBody/4 {
		t.Errorf("%v, for %d bytes", err, taken)
	}
}
