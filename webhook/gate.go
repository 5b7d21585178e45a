package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/tracing"
)

// Gate decides evictions. It is an http.Handler, and safe for concurrent use.
type Gate struct {
	Cluster *cluster.Gatherer
	// Policies returns the revision that serves now; nil while there is none.
	Policies func() *policies.Set
	Options  policies.Options
	Records  *record.Writer
	Metrics  *Metrics
	// History remembers what was decided; nil for a gate without memory.
	History *history.Ledger
	// Outcomes follows what becomes of the pods; nil for a gate that does not.
	Outcomes *fate.Pods
	// Events tells refusals on pods and workloads; nil when there is no API server.
	Events *Events
	// Tracer makes spans of reviews; nil for a gate that is not traced.
	Tracer *tracing.Tracer
	// Observe is told of every decision, and must not block; it may be nil.
	Observe func(*policies.Input, *policies.Decision)
	// Door says which callers are known to be the API server; nil when all are.
	Door *Door
	Log  *slog.Logger
	// Labels say in every record which process decided.
	Labels map[string]string
	// Recording says what the records hold.
	Recording record.Recording
	// Now is the clock.
	Now func() time.Time

	// unknown is set for a caller that is not known to be the API server, silent when nothing is to be recorded of
	// it, either: see forCaller.
	unknown, silent bool
}

// ServeHTTP answers one AdmissionReview. It stands behind Front.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g = g.forCaller(r)
	ctx, span := g.Tracer.Continue(r.Context(), r.Header, spanReview)
	defer span.End()
	review, err := decode(r.Body, r.ContentLength)
	answer := admissionv1.AdmissionReview{TypeMeta: review.TypeMeta}
	if err != nil {
		answer.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
		answer.Response = g.refuse(span, err)
	} else {
		answer.Response = g.answer(ctx, span, &review)
	}
	answer.Response.UID = review.Request.UID
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		g.Log.Error("answer not written", "error", err)
	}
}

// answer decides one review; a panic on the way is answered, too. See the package comment for its steps.
func (g *Gate) answer(ctx context.Context, span *tracing.Span, review *incoming) (response *admissionv1.AdmissionResponse) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			g.panicked(r)
			span.Fail("panic")
			response = failure(http.StatusInternalServerError, metav1.StatusReasonInternalError, fmt.Sprintf("panic: %v", r))
		}
	}()
	request, err := review.request()
	if err != nil {
		return g.refuse(span, err)
	}
	in, reading, d := g.decide(ctx, request, g.Policies())
	if !g.silent {
		g.tell(span, in, reading, d, time.Since(start))
	}
	return respond(&in.Request, d, g.explain(&in.Request, d))
}

// tell is all that comes of a decision beside its answer.
func (g *Gate) tell(span *tracing.Span, in *policies.Input, reading *policies.Reading, d *policies.Decision, took time.Duration) {
	g.Metrics.observe(&in.Request, d, took)
	g.Metrics.answered(reading)
	describe(span, &in.Request, d)
	g.log(&in.Request, d)
	// What is seen of a pod follows its record, so the record comes first.
	g.Records.WriteSized(g.Recording.Size(in, reading), func() (record.Record, error) {
		record, err := g.Recording.Record(in, reading, d, g.Labels)
		record.Caller = g.caller()
		return record, err
	})
	g.Events.Tell(in, d, g.Outcomes.Note(in, d))
	if g.Observe != nil {
		g.Observe(in, d)
	}
}

// refuse answers what is not a review of an eviction.
func (g *Gate) refuse(span *tracing.Span, err error) *admissionv1.AdmissionResponse {
	g.Metrics.badRequests.Inc()
	span.Fail(err.Error())
	return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
}

func (g *Gate) panicked(r any) {
	g.Metrics.panics.Inc()
	g.Log.Error("panic while deciding", "panic", r, "stack", string(debug.Stack()))
}

// decide gathers and evaluates. A panic on the way leaves the review undecided instead of losing it.
func (g *Gate) decide(ctx context.Context, request policies.Request, set *policies.Set) (in *policies.Input, reading *policies.Reading, d *policies.Decision) {
	undecided := func(why string) (*policies.Input, *policies.Reading, *policies.Decision) {
		in := &policies.Input{Request: request}
		in.Now.Time = g.Now().UTC()
		return in, set.Read(in), policies.UndecidedBy("evictgate", why, set.Revision(), g.Options)
	}
	if set == nil {
		set = policies.None()
		return undecided("its policies are not loaded yet")
	}
	defer func() {
		if r := recover(); r != nil {
			g.panicked(r)
			in, reading, d = undecided(fmt.Sprintf("panic: %v", r))
		}
	}()
	done, err := g.turn(ctx, &request, set)
	if err != nil {
		return undecided("other evictions of the same workload are still being decided")
	}
	defer done()
	needs := set.Needs()
	if g.Recording.Full { // a policy is still given what it reads
		needs = policies.EverythingNeeded()
	}
	in, confirmation := g.gather(ctx, request, needs)
	if in.Pod == nil && confirmation == cluster.Unreachable {
		return undecided("the pod is not known yet, and the API server did not say in time whether it exists")
	}
	remember := g.History.Decide
	if g.unknown {
		remember = g.History.Consult
	}
	d = remember(in, needs, func() *policies.Decision {
		given := in
		if g.Recording.Full { // what is recorded beside it must not change the decision
			given = set.Needs().Trim(in)
		}
		reading = set.Read(given)
		d := g.evaluate(ctx, reading)
		if d.Allowed() && in.Unknown != "" { // what is known from before is enough to refuse only
			reading = set.Read(given) // no replay can tell
			return policies.UndecidedBy("evictgate", in.Unknown, set.Revision(), g.Options)
		}
		return d
	})
	return in, reading, d
}

// turn waits until no other eviction is being decided that this one depends on.
func (g *Gate) turn(ctx context.Context, r *policies.Request, set *policies.Set) (done func(), err error) {
	if g.unknown { // others must not wait for it
		return func() {}, nil
	}
	ctx, span := g.Tracer.Start(ctx, spanTurn)
	defer span.End()
	if done, err = g.History.Turn(ctx, g.Cluster.Workload(r, set.Needs())); err != nil {
		span.Fail(err.Error())
	}
	return done, err
}

func (g *Gate) gather(ctx context.Context, r policies.Request, needs *policies.Needs) (*policies.Input, cluster.Confirmation) {
	ctx, span := g.Tracer.Start(ctx, spanGather)
	defer span.End()
	in, confirmation := g.Cluster.Gather(ctx, r, needs, g.Now())
	g.Metrics.confirmed(confirmation)
	if confirmation != cluster.NotAsked {
		span.Text("evictgate.confirmation", string(confirmation))
	}
	return in, confirmation
}

func (g *Gate) evaluate(ctx context.Context, reading *policies.Reading) *policies.Decision {
	ctx, span := g.Tracer.Start(ctx, spanEvaluate)
	defer span.End()
	d := reading.Evaluate(ctx, g.Options)
	if span.On() {
		asked, remembered := reading.Answers()
		span.Number("evictgate.answers", asked)
		span.Number("evictgate.answers_remembered", remembered)
	}
	for _, f := range d.Failures {
		span.Fail(f.Policy + ": " + f.Error)
	}
	return d
}

// log tells a policy that fails, loudly, since somebody must fix it; all else stands in the record.
func (g *Gate) log(r *policies.Request, d *policies.Decision) {
	for _, f := range d.Failures {
		g.Log.Error("policy could not be evaluated", "policy", f.Policy, "error", f.Error, "namespace", r.Namespace, "pod", r.Name)
	}
	g.Log.Debug("decided", "outcome", d.Outcome, "code", d.Code, "namespace", r.Namespace, "pod", r.Name, "evictor", r.Evictor, "message", d.Message)
}
