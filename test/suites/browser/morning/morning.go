// Package morning makes what a review is about: a week of evictions in a small cluster, each decided by
// the real policies and budgets, and what became of the pods.
package morning

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/record"
)

// Week is what happened.
type Week struct {
	Records   []record.Record
	Answers   []record.Answer
	Sightings []record.Sighting
	// Policies are those that decided.
	Policies *policies.Set
}

// bindings are what the cluster has bound beside the default set.
const bindings = `
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: do-not-disrupt}
spec: {library: do_not_disrupt, enforcement: Enforce}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: impossible-budget}
spec: {library: impossible_budget, enforcement: Warn}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: budgets-wanted}
spec: {library: require_budget, enforcement: Warn}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: last-ready-replica}
spec: {library: last_ready_replica, enforcement: Audit}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: sessions-end-first}
spec: {library: long_session, enforcement: Enforce}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: night-freeze}
spec:
  library: freeze_window
  enforcement: Enforce
  parameters:
    windows:
    - {name: night, from: "00:00", to: "04:00", time_zone: UTC}
  match:
    namespaceSelector: {matchLabels: {tier: production}}
    excludes:
    - evictors: [{kind: user}]
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: index-shards}
spec:
  enforcement: Enforce
  match:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: search}}
  rego: |
    package eviction.index_shards

    # Two values at once: what a policy that was never tested does on some pods.
    _shards := 1 if startswith(input.pod.metadata.name, "index-")

    _shards := 2 if contains(input.pod.metadata.name, "-")

    deny contains {"reason": "the pod holds a shard's only copy", "detail": {"shards": _shards}} if _shards > 5
`

// evictors are who evicts in the cluster, as the API server names them.
var evictors = map[string]policies.User{
	"admin":       {Username: "ops@example.com", Groups: []string{"platform", "system:authenticated"}},
	"karpenter":   {Username: "system:serviceaccount:kube-system:karpenter", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
	"autoscaler":  {Username: "system:serviceaccount:kube-system:cluster-autoscaler", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
	"descheduler": {Username: "system:serviceaccount:kube-system:descheduler", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
}

// story is a week being made.
type story struct {
	Week
	world    *world
	gatherer *cluster.Gatherer
	until    time.Time
}

// Until makes the week that ends at a time. The same time gives the same week.
func Until(ctx context.Context, until time.Time) (Week, error) {
	set, err := source.Compile([]policies.File{{Name: "bindings.yaml", Data: []byte(bindings)}})
	if err != nil {
		return Week{}, err
	}
	world, err := newWorld(rand.New(rand.NewPCG(7, 11)), until.Add(-7*24*time.Hour))
	if err != nil {
		return Week{}, err
	}
	s := &story{Week: Week{Policies: set}, world: world, gatherer: &cluster.Gatherer{Store: world.Store}, until: until}
	for at := until.Add(-7 * 24 * time.Hour); at.Before(until.Add(-time.Minute)); at = at.Add(time.Hour) {
		if err := s.hour(ctx, at); err != nil {
			return Week{}, err
		}
	}
	return s.Week, s.lastMorning(ctx)
}

// hour is what happens in each: the autoscalers consolidate by day, the descheduler comes every six.
func (s *story) hour(ctx context.Context, at time.Time) error {
	busy := 2
	if h := at.Hour(); h >= 6 && h < 20 {
		busy = 3 + s.world.random.IntN(5)
	}
	for range busy {
		who := []string{"karpenter", "karpenter", "autoscaler", "admin"}[s.world.random.IntN(4)]
		wl := workloads[s.world.random.IntN(len(workloads))]
		tries := 1 + s.world.random.IntN(6)
		start := at.Add(time.Duration(s.world.random.IntN(3000)) * time.Second)
		if err := s.evict(ctx, wl, who, start, 90*time.Second, tries); err != nil {
			return err
		}
	}
	if at.Hour()%6 == 0 {
		return s.evict(ctx, workloads[0], "descheduler", at.Add(time.Minute), 0, 1)
	}
	return nil
}

// lastMorning is the node that does not drain.
func (s *story) lastMorning(ctx context.Context) error {
	s.world.now = s.until.Add(-4 * time.Hour)
	notebook := workloads[9]
	if err := s.world.replace(notebook, s.world.pods[notebook.namespace+"/"+notebook.name][0]); err != nil {
		return err
	}
	for _, one := range []struct {
		workload int
		who      string
		ago      time.Duration
		every    time.Duration
	}{
		{2, "admin", 5 * time.Hour, 6 * time.Minute},        // the crashing api
		{5, "karpenter", 11 * time.Hour, 14 * time.Minute},  // the budget that never allows
		{4, "autoscaler", 3 * time.Hour, 9 * time.Minute},   // two budgets
		{1, "karpenter", 7 * time.Hour, 10 * time.Minute},   // do-not-disrupt
		{9, "admin", 100 * time.Minute, 8 * time.Minute},    // the session
		{7, "karpenter", 40 * time.Minute, 4 * time.Minute}, // the failing policy
	} {
		tries := int((one.ago - time.Minute) / one.every)
		if err := s.evict(ctx, workloads[one.workload], one.who, s.until.Add(-one.ago), one.every, tries); err != nil {
			return err
		}
	}
	s.Answers = append(s.Answers, record.Answer{
		ID: s.world.uuid(), At: s.until.Add(-9 * time.Hour), Verb: record.VerbEvict, Passage: record.FailedOpen, Namespace: "shop", Pod: "web-7c9f6d5b8-unseen",
		PodUID: s.world.uuid(), User: evictors["autoscaler"].Username, Code: 201,
	})
	return nil
}

// evict tries to evict a pod of the workload until it is admitted.
func (s *story) evict(ctx context.Context, wl workload, who string, start time.Time, every time.Duration, tries int) error {
	s.world.now = start
	pods := s.world.pods[wl.namespace+"/"+wl.name]
	pod := pods[len(pods)-1]
	for i := range tries {
		at := start.Add(every * time.Duration(i)).Add(time.Duration(s.world.random.IntN(1000)) * time.Millisecond)
		record, err := s.decide(ctx, pod, who, at)
		if err != nil {
			return err
		}
		s.Records = append(s.Records, record)
		if record.Result.Allowed() && !record.Request.DryRun {
			return s.admitted(wl, pod, record)
		}
	}
	switch s.world.random.IntN(4) {
	case 0: // somebody loses patience
		if tries > 1 && s.until.Sub(start) > 12*time.Hour {
			s.Answers = append(s.Answers, record.Answer{
				ID: s.world.uuid(), At: start.Add(every * time.Duration(tries)), Verb: record.VerbDelete, Namespace: pod.Namespace, Pod: pod.Name,
				PodUID: string(pod.UID), User: evictors["admin"].Username, UserAgent: "kubectl/v1.37.2", Code: 200,
			})
			return s.world.replace(wl, pod)
		}
	case 1, 2: // a rollout replaces the pod
		if s.until.Sub(start) > 12*time.Hour {
			s.Sightings = append(s.Sightings, record.Sighting{Namespace: pod.Namespace, Pod: pod.Name, PodUID: string(pod.UID), Gone: start.Add(2 * time.Hour)})
			return s.world.replace(wl, pod)
		}
	}
	return nil
}

// admitted is what comes after.
func (s *story) admitted(wl workload, pod *corev1.Pod, r record.Record) error {
	at := r.Timestamp
	switch s.world.random.IntN(20) {
	case 0: // the API server sees another budget
		s.Answers = append(s.Answers, record.Answer{
			ID: s.world.uuid(), At: at.Add(40 * time.Millisecond), Verb: record.VerbEvict, Passage: record.Decided, Namespace: pod.Namespace, Pod: pod.Name,
			User: r.Request.User.Username, Code: 429, Reason: "TooManyRequests", Message: "Cannot evict pod as it would violate the pod's disruption budget.",
			ReviewUID: r.DecisionID, RefusedBy: "budget",
		})
		return s.world.replace(wl, pod)
	case 1: // nothing is known
	default:
		s.Sightings = append(s.Sightings, record.Sighting{
			Namespace: pod.Namespace, Pod: pod.Name, PodUID: string(pod.UID), EvictedByAPI: true, Terminating: at.Add(30 * time.Millisecond), Gone: at.Add(21 * time.Second),
		})
	}
	return s.world.replace(wl, pod)
}

// decide decides one eviction as serve does.
func (s *story) decide(ctx context.Context, pod *corev1.Pod, who string, at time.Time) (record.Record, error) {
	user := evictors[who]
	request := policies.Request{
		UID: s.world.uuid(), Namespace: pod.Namespace, Name: pod.Name, User: user, Evictor: policies.DefaultEvictors().Of(user),
		DryRun: s.world.random.IntN(60) == 0, Annotations: map[string]string{},
	}
	in, _ := s.gatherer.Gather(ctx, request, s.Policies.Needs(), at.UTC())
	reading := s.Policies.Read(in)
	d := reading.Evaluate(ctx, policies.Options{})
	labels := map[string]string{"app": "evictgate", "id": fmt.Sprintf("evictgate-5c6b7d-%d", s.world.random.IntN(2)), "version": "v0.5.0"}
	return record.New(in, reading, d, labels)
}
