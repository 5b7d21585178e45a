package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// cluster makes records as a busy cluster would: some hundred pods are refused at any time, and each is
// tried again and again, by clients with their own patience, until it is admitted or given up.
type cluster struct {
	random *rand.Rand
	now    time.Time
	step   time.Duration
	open   []*pod
	made   int
}

type pod struct {
	namespace, name, uid, workload, kind, node string
	evictor                                    evictor
	tries                                      int
	refusal                                    refusal
}

type evictor struct{ name, user string }

type refusal struct {
	outcome        policies.Outcome
	code           int32
	policy, budget string
}

const (
	namespaces = 200
	workloads  = 2000
	nodes      = 1000
	// tries is how often a pod is tried on average, and openPods how many are tried side by side.
	tries    = 50
	openPods = 400
)

// rareUser evicts one pod in twenty thousand; rarePolicy refuses as seldom.
const (
	rareUser   = "jane@example.com"
	rarePolicy = "quarterly-freeze"
)

func newCluster(n int, over time.Duration, until time.Time) *cluster {
	return &cluster{random: rand.New(rand.NewPCG(1, 2)), now: until.Add(-over), step: over / time.Duration(n)} //nolint:gosec // the same each time
}

func (c *cluster) uuid() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], c.random.Uint64())
	binary.LittleEndian.PutUint64(b[8:], c.random.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (c *cluster) pod() *pod {
	w := int(float64(workloads) * c.random.Float64() * c.random.Float64()) // some are evicted more
	p := &pod{
		namespace: fmt.Sprintf("team-%03d", w%namespaces), workload: fmt.Sprintf("service-%04d", w), kind: "Deployment", uid: c.uuid(),
		node: fmt.Sprintf("ip-10-0-%d-%d.internal", c.random.IntN(nodes)/250, c.random.IntN(250)), tries: 1 + int(c.random.ExpFloat64()*(tries-1)),
	}
	p.name = fmt.Sprintf("%s-%s-%s", p.workload, p.uid[:8], p.uid[9:13]+"x")
	if w%5 == 0 {
		p.kind, p.name = "StatefulSet", fmt.Sprintf("%s-%d", p.workload, c.random.IntN(5))
	}
	p.evictor, p.refusal = c.evictor(), c.refusal(p.workload)
	return p
}

func (c *cluster) evictor() evictor {
	switch n := c.random.IntN(20000); {
	case n == 0:
		return evictor{"user", rareUser}
	case n < 8000:
		return evictor{"karpenter", "system:serviceaccount:karpenter:karpenter"}
	case n < 12000:
		return evictor{"cluster-autoscaler", "system:serviceaccount:kube-system:cluster-autoscaler"}
	case n < 15000:
		return evictor{"descheduler", "system:serviceaccount:kube-system:descheduler"}
	default:
		return evictor{"user", fmt.Sprintf("engineer-%02d@example.com", n%80)}
	}
}

func (c *cluster) refusal(workload string) refusal {
	switch n := c.random.IntN(20000); {
	case n == 0:
		return refusal{policies.Denied, 403, rarePolicy, ""}
	case n == 1:
		return refusal{policies.Undecided, 500, "replicas-ready", ""}
	case n < 14000:
		return refusal{policies.Delayed, 429, "", workload}
	case n < 17000:
		return refusal{policies.Delayed, 429, fmt.Sprintf("maintenance-window-%d", n%20), ""}
	default:
		return refusal{policies.Denied, 403, fmt.Sprintf("protect-stateful-%d", n%10), ""}
	}
}

// next is the next record in time.
func (c *cluster) next() record.Record {
	c.now = c.now.Add(time.Duration(c.random.ExpFloat64() * float64(c.step))).Truncate(time.Microsecond)
	c.made++
	i := c.random.IntN(openPods)
	if i >= len(c.open) {
		c.open, i = append(c.open, c.pod()), len(c.open)
	}
	p := c.open[i]
	admitted := false
	if p.tries--; p.tries <= 0 {
		admitted = c.random.IntN(10) > 0
		c.open[i] = c.pod()
	}
	return c.record(p, admitted)
}

func (c *cluster) record(p *pod, admitted bool) record.Record {
	d := p.decision(admitted, c.now)
	groups := []string{"system:serviceaccounts", "system:authenticated"}
	return record.Record{
		Version: record.Version, DecisionID: c.uuid(), Timestamp: c.now, Path: "eviction", RequestedBy: p.evictor.user, Revision: d.Revision,
		Labels: map[string]string{"app": "evictgate", "id": fmt.Sprintf("evictgate-7d9c6b5f4-%05d", c.made%3), "version": "v1.4.0"},
		Request: record.Request{
			Namespace: p.namespace, Name: p.name, User: policies.User{Username: p.evictor.user, Groups: groups}, Evictor: p.evictor.name,
			DryRun: c.made%500 == 0, Annotations: map[string]string{},
		},
		Pod: &record.Object{Kind: "Pod", Name: p.name, UID: p.uid, Node: p.node}, Owner: &record.Object{Kind: p.kind, Name: p.workload, UID: p.uid},
		InputRefs: []string{"input.namespace.labels", "input.owner.kind", "input.pod.metadata.labels", "input.pod.spec.nodeName", "input.request.evictor"},
		Result:    d, Metrics: map[string]int64{"timer_rego_query_eval_ns": 30000 + c.random.Int64N(50000)}, Input: p.input(),
	}
}

func (p *pod) input() json.RawMessage {
	return fmt.Appendf(nil, `{"namespace":{"labels":{"kubernetes.io/metadata.name":%q,"team":%q}},"owner":{"kind":%q},`+
		`"pod":{"metadata":{"labels":{"app.kubernetes.io/name":%q,"app.kubernetes.io/managed-by":"Helm","pod-template-hash":%q}},"spec":{"nodeName":%q}},`+
		`"request":{"evictor":%q}}`, p.namespace, p.namespace, p.kind, p.workload, p.uid[:8], p.node, p.evictor.name)
}

func (p *pod) decision(admitted bool, at time.Time) *policies.Decision {
	d := &policies.Decision{Outcome: policies.Admitted, Code: 200, Revision: "sha256:5f3c1d9a7be2"}
	if admitted {
		return d
	}
	r := p.refusal
	d.Outcome, d.Code, d.Reason = r.outcome, r.code, "TooManyRequests"
	switch {
	case r.outcome == policies.Undecided:
		d.Message = "policy " + r.policy + " could not be evaluated: timeout"
		d.Failures = []policies.Failure{{Policy: r.policy, Enforcement: policies.Enforce, Error: "eval_cancel_error: caller cancelled query execution"}}
	case r.budget != "":
		d.Message = "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget " + r.budget +
			" needs 3 healthy pods and has 3 currently: " + r.budget + "-0 is not ready (CrashLoopBackOff)."
		d.Disruption = &policies.Disruption{
			Code: 429, Reason: "TooManyRequests", Message: "Cannot evict pod as it would violate the pod's disruption budget.",
			Cause:  "The disruption budget " + r.budget + " needs 3 healthy pods and has 3 currently",
			Detail: "budget " + r.budget + " allows 0 disruptions: it needs 3 healthy pods and has 3", Budgets: []string{r.budget},
			Blockers: []policies.Blocker{{Name: r.budget + "-0", Why: "CrashLoopBackOff", Detail: "back-off 5m0s restarting failed container"}},
			Cures:    []string{"make the pods of the budget ready", "raise the number of replicas", "lower minAvailable of the budget"},
		}
		d.Causes = []policies.Cause{{Type: "DisruptionBudget", Field: r.budget, Message: d.Disruption.Cause}}
	default:
		d.Message = fmt.Sprintf("not before 22:00, it is %s (policy %s)", at.Format("15:04"), r.policy)
		d.Violations = []policies.Violation{{
			Policy: r.policy, Effect: policies.Delay, Enforcement: policies.Enforce, Reason: "outside of the maintenance window of the workload",
			Detail: map[string]any{"opens": "22:00", "closes": "04:00", "zone": "Europe/Berlin"},
		}}
		d.Causes = []policies.Cause{{Type: policies.PolicyCause, Field: r.policy, Message: "outside of the maintenance window of the workload"}}
	}
	return d
}
