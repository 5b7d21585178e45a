package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// What is recorded must not change what is decided, though more is gathered for it.
func TestWholeInputsChangeNoDecision(t *testing.T) {
	files, err := source.Read("../config/samples/policies")
	if err != nil {
		t.Fatal(err)
	}
	sampleSet, err := source.Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	defaultSet, err := policies.Default()
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]*policies.Set{"the default set": defaultSet, "the sample policies": sampleSet} {
		t.Run(name, func(t *testing.T) {
			read, full := decideAll(t, set, record.Recording{}), decideAll(t, set, record.Recording{Full: true})
			if len(read) < 8 || len(read) != len(full) {
				t.Fatalf("%d and %d records", len(read), len(full))
			}
			for i := range read {
				if diff := cmp.Diff(read[i].Result, full[i].Result, cmpopts.IgnoreFields(policies.Decision{}, "Duration")); diff != "" {
					t.Errorf("%s: -read +full:\n%s", read[i].Request.Name, diff)
				}
				var in policies.Input
				if err := json.Unmarshal(full[i].Input, &in); err != nil {
					t.Fatal(err)
				}
				if in.Pod == nil {
					continue
				}
				if in.Namespace == nil || in.Cluster == nil || in.History == nil || (in.Pod.Spec.NodeName != "" && in.Node == nil) || len(in.Neighbours) == 0 {
					t.Errorf("%s: not everything is there: %s", full[i].Request.Name, full[i].Input)
				}
				// A set that serves later decides the same by the whole input as by what it would have read.
				again := set.Evaluate(t.Context(), &in, policies.Options{})
				if diff := cmp.Diff(read[i].Result, written(t, again), cmpopts.IgnoreFields(policies.Decision{}, "Duration"), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s: -recorded +decided again:\n%s", read[i].Request.Name, diff)
				}
			}
		})
	}
}

// written is a decision as it reads back from a record.
func written(t *testing.T, d *policies.Decision) *policies.Decision {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var read policies.Decision
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	return &read
}

// decideAll evicts pods of the sample cluster one after the other and returns the records.
func decideAll(t *testing.T, set *policies.Set, recording record.Recording) (records []record.Record) {
	t.Helper()
	g := newGate(t, io.Discard)
	g.Policies = func() *policies.Set { return set }
	g.History = history.New()
	g.Cluster.Leaving = g.History.Leaving
	g.Recording = recording
	var lines bytes.Buffer
	g.Records = record.NewWriter(&lines, g.Log)
	for i, pod := range samplePods(t) {
		post(front(g), hooks.EvictionsPath, review(pod, func(r *admissionv1.AdmissionReview) { r.Request.UID = types.UID(fmt.Sprint("r", i)) }))
	}
	g.Records.Close()
	for line := range bytes.Lines(lines.Bytes()) {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// samplePods are the pods of the sample cluster's namespace shop, and one that is not there.
func samplePods(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	var list metav1.PartialObjectMetadataList
	if err := yaml.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range list.Items {
		if o.Kind == "Pod" && o.Namespace == "shop" {
			names = append(names, o.Name)
		}
	}
	return append(names, "no-such-pod")
}
