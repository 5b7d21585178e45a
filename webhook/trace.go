package webhook

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/tracing"
)

// The spans of a review. Their attributes name pod, evictor and policies, and the review's uid, by which its
// record and the API server's audit log are found; who asked is only there: traces go to more people.
const (
	spanReview   = "review eviction"
	spanTurn     = "wait for turn"
	spanGather   = "gather"
	spanLive     = "live read"
	spanEvaluate = "evaluate"
)

// describe tells the span of a review what was asked, and what was decided. Only what was not decided is an
// error: a refusal is what the gate is for.
func describe(s *tracing.Span, r *policies.Request, d *policies.Decision) {
	if !s.On() {
		return
	}
	s.Text("k8s.namespace.name", r.Namespace)
	s.Text("k8s.pod.name", r.Name)
	s.Text("evictgate.review_uid", r.UID)
	s.Text("evictgate.evictor", r.Evictor)
	s.Flag("evictgate.dry_run", r.DryRun)
	s.Text("evictgate.outcome", string(d.Outcome))
	s.Number("evictgate.code", int(d.Code))
	s.Text("evictgate.revision", d.Revision)
	s.Texts("evictgate.policies", answering(d))
	if d.Outcome == policies.Undecided {
		s.Fail(failed(d))
	}
}

// answering names the policies that have something to say, each once.
func answering(d *policies.Decision) []string {
	var names []string
	for _, v := range d.Violations {
		names = append(names, v.Policy)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// failed names the first policy that could not be evaluated, and why.
func failed(d *policies.Decision) string {
	if len(d.Failures) == 0 {
		return "undecided"
	}
	return d.Failures[0].Policy + ": " + d.Failures[0].Error
}

// TraceLive is a LiveReader with a span for each read; one that is away fails its span.
func TraceLive(live cluster.LiveReader, t *tracing.Tracer) cluster.LiveReader {
	if live == nil || t == nil {
		return live
	}
	return tracedReader{live, t}
}

type tracedReader struct {
	cluster.LiveReader
	tracer *tracing.Tracer
}

func (r tracedReader) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	ctx, span := r.tracer.Start(ctx, spanLive)
	defer span.End()
	span.Text("k8s.pod.name", name)
	pod, err := r.LiveReader.Pod(ctx, namespace, name)
	failUnlessGone(span, err)
	return pod, err
}

func (r tracedReader) Budget(ctx context.Context, namespace, name string) (*policyv1.PodDisruptionBudget, error) {
	ctx, span := r.tracer.Start(ctx, spanLive)
	defer span.End()
	span.Text("evictgate.budget", name)
	budget, err := r.LiveReader.Budget(ctx, namespace, name)
	failUnlessGone(span, err)
	return budget, err
}

func failUnlessGone(s *tracing.Span, err error) {
	if err != nil && !apierrors.IsNotFound(err) {
		s.Fail(err.Error())
	}
}
