package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/budget"
)

// zoneLabel is the well-known label of a node's zone.
const zoneLabel = corev1.LabelTopologyZone

// LiveReader reads from the API server what the cache may know too late.
type LiveReader interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Budget(ctx context.Context, namespace, name string) (*policyv1.PodDisruptionBudget, error)
}

// Gatherer makes the Input of a decision.
type Gatherer struct {
	*Store
	// Live confirms a refusal by a budget; nil when there is no API server, as over a snapshot.
	Live LiveReader
	// Objects confirms what an admission rests on where the cache is old or does not know it; nil when there is no
	// API server.
	Objects ObjectReader
	// Evictors names who evicts; nil for the default rules.
	Evictors *policies.Evictors
	// Leaving reports whether a pod's eviction was admitted just before, so that the pod counts as
	// terminating though the cluster does not show it yet; nil when nobody knows.
	Leaving func(pod types.UID, now time.Time) bool
}

// Confirmation says what a live read made of a refusal seen in the cache.
type Confirmation string

const (
	// NotAsked: the cache saw no refusal, or there is no API server.
	NotAsked Confirmation = ""
	// Confirmed: the API server's state refuses, too.
	Confirmed Confirmation = "confirmed"
	// Refuted: the cache was behind.
	Refuted Confirmation = "refuted"
	// Unreachable: the live read failed, so the cache decides. When the cache does not know the pod, nobody
	// can: Input.Pod is nil then, though the pod may exist.
	Unreachable Confirmation = "unreachable"
)

// liveAtMost bounds live reads when the context has no deadline.
const liveAtMost = 5 * time.Second

// forReads ends after half of the time that is left: an API server that does not answer must leave enough for
// the policies and the answer.
func forReads(ctx context.Context) (context.Context, context.CancelFunc) {
	most := liveAtMost
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/2)
	}
	return context.WithTimeout(ctx, most)
}

// Gather makes the Input: pod, budgets and the owner's name always, the rest as far as needs reads it.
// The objects in it are shared with the store. What the cache cannot be relied on for is read live; see
// Input.Confirmed and Input.Unknown.
func (g *Gatherer) Gather(ctx context.Context, r policies.Request, needs *policies.Needs, now time.Time) (*policies.Input, Confirmation) {
	ctx, cancel := forReads(ctx)
	defer cancel()
	in, confirmation := g.gather(ctx, r, needs, now)
	if in.Pod == nil || g.Objects == nil {
		return in, confirmation
	}
	if d := g.doubtsAbout(in, needs); !d.none() {
		return g.confirm(ctx, in, d, needs, confirmation)
	}
	return in, confirmation
}

func (g *Gatherer) gather(ctx context.Context, r policies.Request, needs *policies.Needs, now time.Time) (*policies.Input, Confirmation) {
	in := &policies.Input{Now: metav1.NewTime(now.UTC()), Request: r}
	in.Request.Evictor = g.Evictors.Of(r.User)
	var confirmation Confirmation
	var err error
	if in.Pod, err = g.pod(ctx, &r); err != nil {
		confirmation = Unreachable
	}
	if in.Pod != nil {
		confirmation = g.addBudgets(ctx, in)
	}
	if in.Pod != nil {
		g.addSurroundings(in, needs)
	}
	if needs.Reads("namespace") {
		in.Namespace = g.namespace(r.Namespace)
	}
	if needs.Reads("cluster") {
		in.Cluster = g.clusterState()
	}
	return in, confirmation
}

// pod finds the pod that the Eviction means; nil when there is none. A pod that the cache lacks, or
// knows under another UID than the Eviction's precondition, may be younger than the cache: it is read
// live, so that no policy is missed by a race. An error is that it cannot be read.
func (g *Gatherer) pod(ctx context.Context, r *policies.Request) (*corev1.Pod, error) {
	if pod, ok := g.Pod(r.Namespace, r.Name); ok && !meansOther(r.DeleteOptions, pod) {
		return pod, nil
	}
	if g.Live == nil {
		return nil, nil
	}
	pod, err := g.Live.Pod(ctx, r.Namespace, r.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case meansOther(r.DeleteOptions, pod):
		return nil, nil
	}
	return pod, nil
}

// meansOther reports whether the Eviction's precondition names another pod than this one.
func meansOther(o *metav1.DeleteOptions, pod *corev1.Pod) bool {
	return o != nil && o.Preconditions != nil && o.Preconditions.UID != nil && *o.Preconditions.UID != pod.UID
}

// addBudgets asks the budgets. A refusal from the cache is confirmed by a live read of the pod and of
// its budgets, since the cache may be behind: it must never refuse what the API server would allow.
func (g *Gatherer) addBudgets(ctx context.Context, in *policies.Input) Confirmation {
	matching := g.budgets.matching(in.Pod)
	answer := budget.Check(in.Pod, matching)
	confirmation := NotAsked
	if !answer.Allowed() && g.Live != nil {
		pod, fresh, err := g.readLive(ctx, in.Pod, matching)
		switch {
		case err != nil:
			confirmation = Unreachable
		case pod == nil || meansOther(in.Request.DeleteOptions, pod):
			in.Pod = nil
			return Refuted
		default:
			in.Pod, matching = pod, fresh
			answer = budget.Check(pod, fresh)
			confirmation = Confirmed
			if answer.Allowed() {
				confirmation = Refuted
			}
		}
	}
	var pods []*corev1.Pod
	wanted := 0
	if !answer.Allowed() && answer.Case != budget.Multiple {
		pods = g.selected(matching[0])
		wanted = g.Wanted(pods)
	}
	in.Disruption = budget.Explain(answer, matching, pods, wanted)
	for _, b := range matching {
		in.Budgets = append(in.Budgets, budgetOf(b))
	}
	return confirmation
}

// Wanted is how many pods the controllers of these want in all; where a number is not known, those that
// exist count.
func (g *Gatherer) Wanted(pods []*corev1.Pod) int {
	owners := map[string]*int32{}
	existing := map[string]int{}
	for _, pod := range pods {
		uid := string(pod.UID)
		if owner, _ := g.owner(pod); owner != nil {
			uid = owner.UID
			owners[uid] = owner.Replicas
		}
		existing[uid]++
	}
	total := 0
	for uid, n := range existing {
		if wanted := owners[uid]; wanted != nil {
			n = int(*wanted)
		}
		total += n
	}
	return total
}

// readLive reads the pod and its budgets anew; what is gone is left out.
func (g *Gatherer) readLive(ctx context.Context, pod *corev1.Pod, matching []*policyv1.PodDisruptionBudget) (*corev1.Pod, []*policyv1.PodDisruptionBudget, error) {
	live, err := g.Live.Pod(ctx, pod.Namespace, pod.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("read pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	index := newBudgetIndex()
	for _, b := range matching {
		fresh, err := g.Live.Budget(ctx, b.Namespace, b.Name)
		if apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, nil, fmt.Errorf("read budget %s/%s: %w", b.Namespace, b.Name, err)
		}
		index.put(fresh)
	}
	return live, index.matching(live), nil
}

// addSurroundings adds the owner, and the rest as far as it is read.
func (g *Gatherer) addSurroundings(in *policies.Input, needs *policies.Needs) {
	if needs.Reads("node") || needs.Reads("history", "zone") {
		in.Node = g.node(in.Pod.Spec.NodeName)
	}
	if needs.Reads("neighbours") {
		in.Neighbours = g.neighbours(in, needs.Neighbours())
	}
	if needs.Reads("claims") {
		in.Claims = g.claims(in.Pod)
	}
	owner, sets := g.owner(in.Pod)
	if owner == nil {
		return
	}
	in.Owner = owner
	if !readsPeers(needs) {
		return
	}
	var ready, alive int32
	for _, uid := range sets {
		for _, pod := range controlledBy[*corev1.Pod](g.pods, uid) {
			leaves := g.leaves(pod, in)
			if !leaves && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
				alive++
				if policies.PodReady(pod) {
					ready++
				}
			}
			// By name, since hand-written samples have no UIDs; a pod's peers share its namespace.
			if needs.Reads("peers") && pod.Name != in.Pod.Name {
				in.Peers = append(in.Peers, g.peer(pod, leaves))
			}
		}
	}
	slices.SortFunc(in.Peers, func(a, b policies.Peer) int { return cmp.Compare(a.Name, b.Name) })
	owner.ReadyReplicas = &ready
	if owner.Replicas != nil {
		missing := max(0, *owner.Replicas-alive)
		owner.MissingReplicas = &missing
	}
}

// Workload names what the evictions that depend on each other share, as far as the policies look at it: the
// namespace, the pod's owner, or nothing.
func (g *Gatherer) Workload(r *policies.Request, needs *policies.Needs) string {
	pod, ok := g.Pod(r.Namespace, r.Name)
	switch {
	case !ok:
		return ""
	case needs.Reads("neighbours") && haveNeighbours(pod, needs.Neighbours()):
		return r.Namespace
	case readsPeers(needs):
		if owner, _ := g.owner(pod); owner != nil {
			return owner.UID
		}
	}
	return ""
}

// Around names a pod's top controller, by its UID, and its zone, as the history lists them; what is not known is
// empty.
func (g *Gatherer) Around(pod *corev1.Pod) (owner, zone string) {
	if o, _ := g.owner(pod); o != nil {
		owner = o.UID
	}
	if n := g.node(pod.Spec.NodeName); n != nil {
		zone = n.Labels[zoneLabel]
	}
	return owner, zone
}

func readsPeers(needs *policies.Needs) bool {
	return needs.Reads("owner", "ready_replicas") || needs.Reads("owner", "missing_replicas") || needs.Reads("peers")
}

// owner resolves the pod's top controller, and the UIDs of the objects that control its pods.
func (g *Gatherer) owner(pod *corev1.Pod) (*policies.Owner, []string) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil, nil
	}
	sets := []string{string(ref.UID)}
	owner := &policies.Owner{Kind: ref.Kind, Name: ref.Name, UID: string(ref.UID)}
	switch ref.Kind {
	case "ReplicaSet":
		rs, ok := get[*appsv1.ReplicaSet](g.replicaSets, pod.Namespace, ref.Name)
		if !ok {
			return owner, sets
		}
		owner.Replicas = orOne(rs.Spec.Replicas)
		if top := metav1.GetControllerOfNoCopy(rs); top != nil {
			return g.topOfReplicaSet(pod.Namespace, top)
		}
	case "Job":
		job, ok := get[*batchv1.Job](g.jobs, pod.Namespace, ref.Name)
		if !ok {
			return owner, sets
		}
		owner.Replicas = orOne(job.Spec.Parallelism)
		if top := metav1.GetControllerOfNoCopy(job); top != nil {
			owner.Kind, owner.Name, owner.UID = top.Kind, top.Name, string(top.UID)
		}
	default:
		owner.Replicas = g.replicas(ref.Kind, pod.Namespace, ref.Name)
	}
	return owner, sets
}

// topOfReplicaSet is the Deployment (or another controller) above a ReplicaSet, with the UIDs of all
// ReplicaSets below it: during a rollout its pods belong to several.
func (g *Gatherer) topOfReplicaSet(namespace string, top *metav1.OwnerReference) (*policies.Owner, []string) {
	owner := &policies.Owner{Kind: top.Kind, Name: top.Name, UID: string(top.UID)}
	if top.Kind == "Deployment" {
		owner.Replicas = g.replicas("Deployment", namespace, top.Name)
	}
	var sets []string
	for _, rs := range controlledBy[*appsv1.ReplicaSet](g.replicaSets, string(top.UID)) {
		sets = append(sets, string(rs.UID))
	}
	return owner, sets
}

// replicas is the number of pods a workload wants; nil for kinds whose number is not known.
func (g *Gatherer) replicas(kind, namespace, name string) *int32 {
	switch kind {
	case "Deployment":
		if d, ok := get[*appsv1.Deployment](g.deployments, namespace, name); ok {
			return orOne(d.Spec.Replicas)
		}
	case "StatefulSet":
		if s, ok := get[*appsv1.StatefulSet](g.statefulSets, namespace, name); ok {
			return orOne(s.Spec.Replicas)
		}
	case "ReplicationController":
		if c, ok := get[*corev1.ReplicationController](g.replicationControls, namespace, name); ok {
			return orOne(c.Spec.Replicas)
		}
	case "DaemonSet":
		if d, ok := get[*appsv1.DaemonSet](g.daemonSets, namespace, name); ok {
			return &d.Status.DesiredNumberScheduled
		}
	}
	return nil
}

// orOne is the API's default for replicas and parallelism.
func orOne(n *int32) *int32 {
	if n == nil {
		one := int32(1)
		return &one
	}
	return n
}

// leaves reports whether a pod terminates or is about to; for the evicted pod itself, only the first.
func (g *Gatherer) leaves(pod *corev1.Pod, in *policies.Input) bool {
	return pod.DeletionTimestamp != nil ||
		(g.Leaving != nil && pod.UID != in.Pod.UID && g.Leaving(pod.UID, in.Now.Time))
}

func (g *Gatherer) peer(pod *corev1.Pod, leaves bool) policies.Peer {
	p := policies.Peer{
		Name: pod.Name, Node: pod.Spec.NodeName, Ready: policies.PodReady(pod),
		Phase: string(pod.Status.Phase), Terminating: leaves,
	}
	if node, ok := get[*corev1.Node](g.nodes, "", pod.Spec.NodeName); ok {
		p.Zone, p.NodeUnschedulable = node.Labels[zoneLabel], node.Spec.Unschedulable
	}
	return p
}

func (g *Gatherer) node(name string) *policies.Node {
	node, ok := get[*corev1.Node](g.nodes, "", name)
	if !ok {
		return nil
	}
	n := &policies.Node{
		Name: node.Name, Labels: node.Labels, Annotations: node.Annotations,
		Unschedulable: node.Spec.Unschedulable, Ready: isReady(node), Taints: node.Spec.Taints,
	}
	return n
}

// namespace is never null for a namespace whose object is not known: policies may rely on its name.
func (g *Gatherer) namespace(name string) *policies.Namespace {
	n := &policies.Namespace{Name: name}
	if ns, ok := get[*corev1.Namespace](g.namespaces, "", name); ok {
		n.Labels, n.Annotations = ns.Labels, ns.Annotations
	}
	return n
}

func budgetOf(p *policyv1.PodDisruptionBudget) policies.Budget {
	b := policies.Budget{
		Name: p.Name, Selector: p.Spec.Selector,
		MinAvailable: text(p.Spec.MinAvailable), MaxUnavailable: text(p.Spec.MaxUnavailable),
		CurrentHealthy: p.Status.CurrentHealthy, DesiredHealthy: p.Status.DesiredHealthy,
		ExpectedPods: p.Status.ExpectedPods, DisruptionsAllowed: p.Status.DisruptionsAllowed,
		Generation: p.Generation, ObservedGeneration: p.Status.ObservedGeneration,
	}
	if u := p.Spec.UnhealthyPodEvictionPolicy; u != nil {
		s := string(*u)
		b.UnhealthyPodEvictionPolicy = &s
	}
	return b
}

func text(v *intstr.IntOrString) *string {
	if v == nil {
		return nil
	}
	s := v.String()
	return &s
}
