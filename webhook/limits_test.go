package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// evictionWith is an Eviction with annotations and the rest of its fields, as JSON.
func evictionWith(t testing.TB, annotations map[string]string, rest string) []byte {
	t.Helper()
	raw, err := json.Marshal(annotations)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"annotations":%s}%s}`, raw, rest)
}

// many makes n different texts of a length.
func many(n, length int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%0*d", length, i)
	}
	return list
}

func keyed(keys []string, value string) map[string]string {
	m := map[string]string{}
	for _, key := range keys {
		m[key] = value
	}
	return m
}

// TestAReviewWithTooMuchTextIsRefused sends what the API server would let pass, or what somebody else may send,
// once at the bound and once beyond: what is refused leaves no record, and the answer says the number.
func TestAReviewWithTooMuchTextIsRefused(t *testing.T) {
	annotations := func(m map[string]string) func(*admissionv1.AdmissionReview) {
		return func(r *admissionv1.AdmissionReview) { r.Request.Object.Raw = evictionWith(t, m, "") }
	}
	options := func(json string) func(*admissionv1.AdmissionReview) {
		return func(r *admissionv1.AdmissionReview) {
			r.Request.Object.Raw = evictionWith(t, nil, `,"deleteOptions":`+json)
		}
	}
	for name, c := range map[string]struct {
		at, beyond func(*admissionv1.AdmissionReview)
		want       string
	}{
		"the size of annotations": {
			annotations(map[string]string{"note": strings.Repeat("x", 262140)}), annotations(map[string]string{"note": strings.Repeat("x", 900_000)}),
			"evictgate: the Eviction has 900004 bytes of annotations; at most 262144 are taken",
		},
		"the number of annotations": {
			annotations(keyed(many(1000, 5), "")), annotations(keyed(many(1001, 5), "")),
			"evictgate: the Eviction has 1001 annotations; at most 1000 are taken",
		},
		"a preconditioned resource version": {
			options(`{"preconditions":{"resourceVersion":"` + strings.Repeat("7", 4096) + `"}}`),
			options(`{"preconditions":{"resourceVersion":"` + strings.Repeat("7", 4097) + `"}}`),
			"evictgate: the Eviction has 4097 bytes of text in deleteOptions; at most 4096 are taken",
		},
		"a list of dry runs": {
			options(`{"dryRun":["` + strings.Join(many(100, 3), `","`) + `"]}`),
			options(`{"dryRun":["` + strings.Join(many(5000, 4), `","`) + `"]}`),
			"evictgate: the Eviction has 25000 bytes of text in deleteOptions; at most 4096 are taken",
		},
		"the user's name": {
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Username = strings.Repeat("u", 4096) },
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Username = strings.Repeat("u", 4097) },
			"evictgate: the user's name has 4097 bytes; at most 4096 are taken",
		},
		"the number of groups": {
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Groups = many(4000, 5) },
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Groups = many(4001, 5) },
			"evictgate: the user has 4001 groups; at most 4000 are taken",
		},
		"the size of groups": {
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Groups = many(2, 131072) },
			func(r *admissionv1.AdmissionReview) { r.Request.UserInfo.Groups = many(2, 131073) },
			"evictgate: the names of the user's groups have 262146 bytes; at most 262144 are taken",
		},
		"the pod's name": {
			func(r *admissionv1.AdmissionReview) { r.Request.Name = strings.Repeat("n", 253) },
			func(r *admissionv1.AdmissionReview) { r.Request.Name = strings.Repeat("n", 254) },
			"evictgate: request.name has 254 bytes; a pod's name has at most 253",
		},
		"the namespace's name": {
			func(r *admissionv1.AdmissionReview) { r.Request.Namespace = strings.Repeat("n", 63) },
			func(r *admissionv1.AdmissionReview) { r.Request.Namespace = strings.Repeat("n", 64) },
			"evictgate: request.namespace has 64 bytes; a namespace's name has at most 63",
		},
		"the UID": {
			func(r *admissionv1.AdmissionReview) { r.Request.UID = types.UID(strings.Repeat("i", 128)) },
			func(r *admissionv1.AdmissionReview) { r.Request.UID = types.UID(strings.Repeat("i", 129)) },
			"evictgate: request.uid has 129 bytes; at most 128 are taken",
		},
		"a UID with a line's end": {
			func(r *admissionv1.AdmissionReview) { r.Request.UID = "a-b" },
			func(r *admissionv1.AdmissionReview) { r.Request.UID = "a\nb" },
			`evictgate: request.uid is "a\nb"; expected printable ASCII without spaces, such as a UUID`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			g := newGate(t, &out)
			taken := answer(t, post(front(g), hooks.EvictionsPath, review("web-7d4b9c6f5-2xkqv", c.at)))
			if !taken.Allowed {
				t.Errorf("at the bound: refused with %q", taken.Result.Message)
			}
			refused := answer(t, post(front(g), hooks.EvictionsPath, review("web-7d4b9c6f5-2xkqv", c.beyond)))
			if refused.Allowed || refused.Result.Code != http.StatusBadRequest || refused.Result.Message != c.want {
				t.Errorf("beyond the bound: %v %d %q, want %q", refused.Allowed, refused.Result.Code, refused.Result.Message, c.want)
			}
			g.Records.Close()
			if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
				t.Errorf("%d records, want 1: of the review that was taken", n)
			}
		})
	}
}

// TestARecordOfTheLargestReviewIsSmall sends as much text as is taken, through a policy that reads all of it and
// quotes it: record and answer stay small, and say what was cut.
func TestARecordOfTheLargestReviewIsSmall(t *testing.T) {
	quoting, err := source.Compile([]policies.File{{Name: "quoting.rego", Data: []byte(`package eviction.quoting

deny contains {"reason": concat("", ["held because of ", input.request.annotations.note, concat(",", input.request.user.groups)]), "detail": {"all": input.request}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	secret := "unmistakable"
	annotations := keyed(many(900, 40), strings.Repeat("v", 100))
	annotations["note"] = strings.Repeat("n", 100_000) + secret
	annotations[policies.OverrideAnnotation] = "incident \u202e7 " + strings.Repeat("o", 10_000) + secret
	var out bytes.Buffer
	g := newGate(t, &out)
	g.Options.Override.Groups = []string{"ops"}
	g.Policies = func() *policies.Set { return quoting }
	body := review("web-7d4b9c6f5-2xkqv", func(r *admissionv1.AdmissionReview) {
		r.Request.UserInfo.Username = strings.Repeat("u", 4000) + secret
		r.Request.UserInfo.Groups = append(many(1000, 200), "ops")
		r.Request.Object.Raw = evictionWith(t, annotations, "")
	})
	got := answer(t, post(front(g), hooks.EvictionsPath, body))
	if !got.Allowed {
		t.Fatalf("the override was not used: %s", got.Result.Message)
	}
	if reason := got.AuditAnnotations["override"]; utf8.RuneCountInString(reason) != maxPlain || !strings.HasPrefix(reason, "incident  7 ooo") || !strings.HasSuffix(reason, "o…") {
		t.Errorf("the audit annotation override has %d runes: %.30q", utf8.RuneCountInString(reason), reason)
	}
	g.Records.Close()
	if n := out.Len(); n > 128<<10 || strings.Contains(out.String(), secret) {
		at := max(0, strings.Index(out.String(), secret))
		t.Errorf("a record of %d bytes; the end of a text is in it: …%s", n, out.String()[max(0, at-300):min(n, at+100)])
	}
	var r record.Record
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for _, pointer := range []string{"/requested_by", "/request/user/username", "/request/user/groups", "/request/annotations", "/result/override/reason", "/input/request/annotations", "/input/request/user/groups"} {
		if !slices.Contains(r.Erased, pointer) {
			t.Errorf("erased lacks %s: %q", pointer, r.Erased)
		}
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"incident 7":                "incident 7",
		"":                          "",
		"a\nb\x00c":                 "a b c",
		"\u202eabc\u2066":           "abc",
		"a\u2028b":                  "a b",
		"\xff":                      "\xff",
		strings.Repeat("é", 1024):   strings.Repeat("é", 1024),
		strings.Repeat("é", 1025):   strings.Repeat("é", 1023) + "…",
		strings.Repeat("\xff", 9e3): strings.Repeat("\ufffd", 1023) + "…",
	} {
		if diff := cmp.Diff(want, plain(text)); diff != "" {
			t.Errorf("%.20q: -want +got:\n%s", text, diff)
		}
	}
}

// TestAnAnswerToALongUIDIsShort: what cannot be a UID is not sent back.
func TestAnAnswerToALongUIDIsShort(t *testing.T) {
	got := post(front(newGate(t, io.Discard)), hooks.EvictionsPath, review("web", func(r *admissionv1.AdmissionReview) {
		r.Request.UID = types.UID(strings.Repeat("i", 1_000_000))
	}))
	if got.Body.Len() > 1000 {
		t.Errorf("the answer has %d bytes", got.Body.Len())
	}
}

// TestTheDocumentHasTheBounds holds docs/record-limits.md to what is built.
func TestTheDocumentHasTheBounds(t *testing.T) {
	raw, err := os.ReadFile("../docs/record-limits.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| annotations of the Eviction | %d, with %d bytes of names and values |", maxAnnotations, maxAnnotationBytes),
		fmt.Sprintf("| texts in its delete options | %d bytes |", maxDeleteOptions),
		fmt.Sprintf("| name of the user | %d bytes |", maxUserName),
		fmt.Sprintf("| groups of the user | %d, with %d bytes |", maxGroups, maxGroupBytes),
		fmt.Sprintf("| name of the pod, of the namespace | %d, %d bytes |", maxPodName, maxNamespaceName),
		fmt.Sprintf("| UID of the review | %d bytes of printable ASCII |", maxUID),
		fmt.Sprintf("have %d characters at most", maxPlain),
	} {
		if !strings.Contains(string(raw), row) {
			t.Errorf("the document lacks %q", row)
		}
	}
}
