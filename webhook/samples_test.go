package webhook

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

var update = flag.Bool("update", false, "rewrite generated files")

// TestSampleRecords holds audit/schema/samples.jsonl to what the webhook writes: a record of each outcome, and
// of each thing that a record can hold.
func TestSampleRecords(t *testing.T) {
	const file = "record/schema/samples.jsonl"
	failing, err := source.Compile([]policies.File{{Name: "broken.rego", Data: []byte("package eviction.broken\n\ndeny contains {\"reason\": \"x\", \"detail\": {}} if to_number(input.pod.metadata.name) > 1\n")}})
	if err != nil {
		t.Fatal(err)
	}
	held, err := source.Compile([]policies.File{{Name: "held.rego", Data: []byte("package eviction.held\n\ndeny contains {\"reason\": \"held\", \"detail\": {\"app\": input.pod.metadata.labels.app}} if input.request.evictor != \"\"\n")}})
	if err != nil {
		t.Fatal(err)
	}
	masks, err := record.ReadMasks([]string{"input.pod.metadata.labels", `request.annotations["example.com/ticket"]`})
	if err != nil {
		t.Fatal(err)
	}
	annotated := func(r *admissionv1.AdmissionReview) {
		r.Request.Object.Raw = []byte(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"annotations":{"evictgate.dev/override":"incident 7","example.com/ticket":"T-1"}}}`)
	}
	var out bytes.Buffer
	for i, s := range []struct {
		pod    string
		set    *policies.Set
		change func(*admissionv1.AdmissionReview)
		gate   func(*Gate)
	}{
		{pod: "web-7d4b9c6f5-2xkqv"},    // admitted
		{pod: "cart-7d4b9c6f5-5hj2n"},   // a policy
		{pod: "api-7d4b9c6f5-4c8tr"},    // a budget
		{pod: "ledger-7d4b9c6f5-c3f6k"}, // two budgets
		{pod: "no-such-pod"},
		{pod: "web-7d4b9c6f5-2xkqv", set: failing}, // undecided
		{pod: "web-7d4b9c6f5-2xkqv", set: held, change: annotated, gate: func(g *Gate) {
			g.Options.Override.Users = []string{"admin"}
		}},
		{pod: "web-7d4b9c6f5-2xkqv", set: held, change: annotated, gate: func(g *Gate) { g.Recording.Masks = masks }},
		{pod: "web-7d4b9c6f5-2xkqv", gate: func(g *Gate) { g.Recording.Full = true }},
	} {
		g := newGate(t, io.Discard)
		g.Recording = record.Recording{}
		if s.set != nil {
			g.Policies = func() *policies.Set { return s.set }
		}
		if s.gate != nil {
			s.gate(g)
		}
		var lines bytes.Buffer
		g.Records = record.NewWriter(&lines, g.Log)
		body := review(s.pod, func(r *admissionv1.AdmissionReview) {
			r.Request.UID = types.UID(fmt.Sprint("sample-", i))
			if s.change != nil {
				s.change(r)
			}
		})
		if code := post(front(g), hooks.EvictionsPath, body).Code; code != http.StatusOK {
			t.Fatalf("%s: %d", s.pod, code)
		}
		g.Records.Close()
		out.Write(timeless(t, lines.Bytes()))
	}
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), out.String()); diff != "" {
		t.Errorf("%s is not what is written; run make generate: %s", file, diff)
	}
}

// timeless replaces the duration of the evaluation.
func timeless(t *testing.T, line []byte) []byte {
	t.Helper()
	const key = `"timer_rego_query_eval_ns":`
	at := bytes.Index(line, []byte(key))
	if at < 0 {
		t.Fatalf("no duration in %s", line)
	}
	at += len(key)
	end := at + bytes.IndexByte(line[at:], '}')
	took, err := time.ParseDuration(string(line[at:end]) + "ns")
	if err != nil || took <= 0 {
		t.Errorf("the evaluation took %s: %v", took, err)
	}
	return bytes.Join([][]byte{line[:at], []byte("100000"), line[end:]}, nil)
}
