package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// Gate decides evictions. It is the admission handler, and safe for concurrent use.
type Gate struct {
	Cluster *cluster.Gatherer
	// Policies returns the revision that serves now; never nil.
	Policies func() *policies.Set
	Options  policies.Options
	Records  *audit.Writer
	Metrics  *Metrics
	// Events tells refusals on pods and workloads; nil when there is no API server.
	Events *Events
	Log    *slog.Logger
	// Labels say in every record which process decided.
	Labels map[string]string
	// Now is the clock.
	Now func() time.Time
}

// Handle decides one review. See the package comment for its steps.
func (g *Gate) Handle(ctx context.Context, r admission.Request) admission.Response {
	start := time.Now()
	request, err := parse(&r)
	if err != nil {
		g.Metrics.badRequests.Inc()
		return badRequest(err)
	}
	set := g.Policies()
	in, d := g.decide(ctx, request, set)
	g.Metrics.observe(&request, d, time.Since(start))
	g.log(&request, d)
	g.Events.Refused(in, d)
	g.Records.Write(func() (audit.Record, error) { return audit.NewRecord(in, set, d, g.Labels) })
	return respond(&request, d)
}

// decide gathers and evaluates. A panic on the way leaves the review undecided instead of losing it.
func (g *Gate) decide(ctx context.Context, request policies.Request, set *policies.Set) (in *policies.Input, d *policies.Decision) {
	defer func() {
		if r := recover(); r != nil {
			g.Metrics.panics.Inc()
			g.Log.Error("panic while deciding", "panic", r, "stack", string(debug.Stack()))
			in = &policies.Input{Request: request}
			in.Now.Time = g.Now().UTC()
			d = policies.UndecidedBy("evictgate", fmt.Sprintf("panic: %v", r), set.Revision(), g.Options)
		}
	}()
	in, confirmation := g.Cluster.Gather(ctx, request, set.Needs(), g.Now())
	g.Metrics.confirmed(confirmation)
	return in, set.Evaluate(ctx, in, g.Options)
}

// log tells a policy that fails, loudly, since somebody must mend it; all else stands in the record.
func (g *Gate) log(r *policies.Request, d *policies.Decision) {
	for _, f := range d.Failures {
		g.Log.Error("policy could not be evaluated", "policy", f.Policy, "error", f.Error, "namespace", r.Namespace, "pod", r.Name)
	}
	g.Log.Debug("decided", "outcome", d.Outcome, "code", d.Code, "namespace", r.Namespace, "pod", r.Name, "evictor", r.Evictor, "message", d.Message)
}
