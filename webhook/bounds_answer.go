package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rejection is why a review is not decided.
type rejection struct {
	// reason is the label of the metric.
	reason string
	code   int
	text   string
	// broken says that no more can be read of the request.
	broken bool
}

// The texts say nothing of the moment: clients group refusals by their text.
var (
	noRoom        = &rejection{reason: "number", code: http.StatusTooManyRequests, text: "evictgate: this replica has too many reviews in flight; try again"}
	noTime        = &rejection{reason: "waited", code: http.StatusTooManyRequests, text: "evictgate: this replica had no room for the review in time; try again"}
	shortOfMemory = &rejection{reason: "memory", code: http.StatusTooManyRequests, text: "evictgate: this replica is short of memory; try again"}
	tooLarge      = &rejection{reason: "size", code: http.StatusRequestEntityTooLarge,
		text: "evictgate: the review has more than 1 MiB; at most 1048576 bytes are taken. Shorten the annotations of the Eviction"}
	tooManyValues = &rejection{reason: "values", code: http.StatusRequestEntityTooLarge,
		text: "evictgate: the review has more than 20000 JSON values, and no more are taken. Leave out annotations of the Eviction"}
	gone = &rejection{reason: "gone", broken: true}
)

// Why a body could not be read: it did not arrive in time, or was cut off. The texts say more of each case.
const reasonLate, reasonCut = "late", "cut"

// unavailable is why room was not waited for any longer.
func unavailable(ctx context.Context) *rejection {
	if errors.Is(ctx.Err(), context.Canceled) {
		return gone
	}
	return noTime
}

const (
	// maxHead is how much is looked at for the uid of a review that is refused: the API server writes it first.
	maxHead = 4 << 10
	// maxDiscard bounds what is read of a refused body, so that its sender gets to read the answer: 3 MiB of which
	// JSON escapes every character.
	maxDiscard = 20 << 20
)

// refuse answers with an AdmissionReview where the uid is found in what was read or still arrives, and with the
// text alone otherwise.
func (b *Bounds) refuse(w http.ResponseWriter, r *http.Request, read []byte, no *rejection) {
	b.metrics.shed.WithLabelValues(no.reason).Inc()
	if no == gone {
		return
	}
	if no.broken {
		w.Header().Set("Connection", "close")
		http.Error(w, no.text, no.code)
		return
	}
	var head bytes.Buffer
	head.Write(read[:min(len(read), maxHead)])
	_, _ = io.CopyN(&head, r.Body, int64(maxHead-head.Len()))
	_, _ = io.CopyN(io.Discard, r.Body, maxDiscard)
	review, ok := headOf(head.Bytes())
	if !ok {
		http.Error(w, no.text, no.code)
		return
	}
	review.Response.Result = &metav1.Status{
		Status: metav1.StatusFailure, Code: int32(no.code), Message: no.text, Reason: metav1.StatusReasonTooManyRequests,
	}
	if no.code == http.StatusRequestEntityTooLarge {
		review.Response.Result.Reason = metav1.StatusReasonRequestEntityTooLarge
	}
	_ = json.NewEncoder(w).Encode(review)
}

// headOf starts the answer to a review of which only the beginning is there.
func headOf(raw []byte) (answer admissionv1.AdmissionReview, ok bool) {
	answer.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	d := json.NewDecoder(bytes.NewReader(raw))
	in := walk(d, func(key string) bool {
		if key == "apiVersion" {
			if version, _ := d.Token(); version == "admission.k8s.io/v1beta1" {
				answer.APIVersion = "admission.k8s.io/v1beta1"
			}
			return true
		}
		return false
	}, "request")
	if !in || !walk(d, nil, "uid") {
		return answer, false
	}
	uid, _ := d.Token()
	text, _ := uid.(string)
	answer.Response = &admissionv1.AdmissionResponse{UID: types.UID(text)}
	return answer, text != ""
}

// walk reads an object up to the value of a key. The others it passes over, where take does not read them.
func walk(d *json.Decoder, take func(key string) bool, wanted string) bool {
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return false
		}
		if key == wanted {
			return true
		}
		if name, _ := key.(string); take != nil && take(name) {
			continue
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return false
		}
	}
	return false
}
