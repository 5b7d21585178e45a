package evictionpolicy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies/source"
)

// told is what a Teller tells, but for the log.
type told struct {
	failed    bool
	revision  string
	regarding *corev1.ObjectReference
	events    []string
}

func (t *told) Reloaded(revision string, failed bool) { t.revision, t.failed = revision, failed }

func (t *told) PoliciesUnusable(regarding *corev1.ObjectReference, message string) {
	t.regarding, t.events = regarding, append(t.events, message)
}

// The log and the Event say where in its Rego a policy is wrong, as its status does.
func TestABrokenPolicyIsToldAtItsPlace(t *testing.T) {
	const problem = "EvictionPolicy/x spec.rego:2:15: there is no function nope"
	var got told
	var log bytes.Buffer
	plain := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	s := source.New()
	s.OnChange = Teller{Log: plain, Metrics: &got, Events: &got, Configuration: "evictgate"}.Change
	s.Add(Source, false)
	s.Put(Source, []source.Unit{unit(t, "x", broken)}, nil)
	if err := s.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := told{
		failed: true, revision: s.Current().Revision(),
		regarding: &corev1.ObjectReference{APIVersion: "evictgate.dev/v1alpha1", Kind: "EvictionPolicy", Name: "x"},
		events:    []string{"EvictionPolicy/x: policies left out: " + problem},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(told{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), `problems="`+problem+`"`) {
		t.Errorf("log: %s", &log)
	}
}
