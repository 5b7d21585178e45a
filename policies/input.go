package policies

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Input is what a policy sees as `input`. It is total: every key of ours is always there, null or
// empty rather than absent, so that a policy cannot become undefined by a missing key of ours.
// Only what the loaded policies read is filled in; see Set.Needs.
//
// Keys are snake_case; embedded Kubernetes objects keep their own camelCase.
type Input struct {
	// Now is the time of the decision, UTC.
	Now     metav1.Time `json:"now"`
	Request Request     `json:"request"`
	// Pod is the pod to be evicted, without managedFields and the last-applied annotation.
	// Null when the pod is not known.
	Pod       *corev1.Pod `json:"pod"`
	Namespace *Namespace  `json:"namespace"`
	// Node is where the pod runs; null when it is not scheduled or the node is gone.
	Node *Node `json:"node"`
	// Owner is the pod's top controller; null for a bare pod.
	Owner *Owner `json:"owner"`
	// Peers are the owner's other pods, sorted by name.
	Peers []Peer `json:"peers"`
	// Budgets are the PodDisruptionBudgets that match the pod, sorted by name.
	Budgets []Budget `json:"budgets"`
	// Disruption is what the API server would answer by the budgets alone.
	Disruption *Disruption `json:"disruption"`
	// Neighbours are the namespace's other pods, sorted by name. They are gathered from all pods of the
	// namespace, so a policy should read them only when peers are not enough, and say by METADATA
	// custom.neighbours_by which of its parameters has the labels that matter: then only those are there
	// that share the value of one with the pod.
	Neighbours []Neighbour `json:"neighbours"`
	// Claims are the persistent volume claims that the pod mounts, in the order of its volumes.
	Claims []Claim `json:"claims"`
	// Cluster sums up the cluster's nodes.
	Cluster *Cluster `json:"cluster"`
	// History holds recent evictions as far as this replica has admitted or seen them, and since when policies
	// hold this pod; null over a snapshot.
	History *History `json:"history"`
	// Parameters are those of the policy's binding.
	Parameters map[string]any `json:"parameters"`
	// Confirmed names what was read from the API server for this decision, since the cache was behind or could
	// not be relied on: ConfirmedPod and the other kinds, sorted. Policies do not see it.
	Confirmed []string `json:"-"`
	// Unknown says what the decision would have to rest on and nobody knows for sure, so that the eviction must
	// not be admitted; empty when all is known. Policies do not see it.
	Unknown string `json:"-"`
}

// ConfirmedPod is in Input.Confirmed when the pod was read from the API server.
const ConfirmedPod = "pod"

// ParseInput reads the JSON of a Reading back. What the JSON does not hold is zero, and what it holds is read
// again as it was.
func ParseInput(raw []byte) (*Input, error) {
	in := &Input{}
	if err := json.Unmarshal(raw, in); err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	return in, nil
}

// Request is the review's request, reduced to what a policy may rely on.
type Request struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	User      User   `json:"user"`
	// Evictor is the kind of client, normalised from the user: see Evictor.
	Evictor string `json:"evictor"`
	// DryRun is true when the query or the Eviction's delete options ask for a dry run.
	DryRun bool `json:"dry_run"`
	// Annotations are the Eviction's own; any client can set them.
	Annotations map[string]string `json:"annotations"`
	// DeleteOptions are the Eviction's; null when it has none.
	DeleteOptions *metav1.DeleteOptions `json:"delete_options"`
}

// User is who sent the Eviction, as the API server authenticated it.
type User struct {
	Username string   `json:"username"`
	Groups   []string `json:"groups"`
}

// Namespace is the pod's namespace.
type Namespace struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Node is the node on which the pod runs.
type Node struct {
	Name          string            `json:"name"`
	Labels        map[string]string `json:"labels"`
	Annotations   map[string]string `json:"annotations"`
	Unschedulable bool              `json:"unschedulable"`
	Ready         bool              `json:"ready"`
	Taints        []corev1.Taint    `json:"taints"`
}

// Owner is the pod's top controller: a ReplicaSet is resolved to its Deployment, a Job to its
// CronJob. The numbers are null when the kind is not one whose replicas are known.
type Owner struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Replicas is the wanted number of pods (spec).
	Replicas *int32 `json:"replicas"`
	// ReadyReplicas counts the owner's pods that are Ready and not terminating, the pod included.
	ReadyReplicas *int32 `json:"ready_replicas"`
	// MissingReplicas counts wanted pods that do not exist yet or are terminating.
	MissingReplicas *int32 `json:"missing_replicas"`
}

// Peer is another pod of the same owner.
type Peer struct {
	Name string `json:"name"`
	Node string `json:"node"`
	Zone string `json:"zone"`
	// NodeUnschedulable is true when its node is cordoned.
	NodeUnschedulable bool   `json:"node_unschedulable"`
	Ready             bool   `json:"ready"`
	Phase             string `json:"phase"`
	Terminating       bool   `json:"terminating"`
}

// Neighbour is another pod of the pod's namespace, of whatever owner.
type Neighbour struct {
	Peer   `json:",inline"`
	Labels map[string]string `json:"labels"`
}

// Budget is a PodDisruptionBudget that matches the pod: the numbers of its spec and its status.
type Budget struct {
	Name string `json:"name"`
	// MinAvailable and MaxUnavailable are written as in the spec ("2", "50%"); null when not set.
	MinAvailable   *string `json:"min_available"`
	MaxUnavailable *string `json:"max_unavailable"`
	// UnhealthyPodEvictionPolicy is null when not set, which means IfHealthyBudget.
	UnhealthyPodEvictionPolicy *string               `json:"unhealthy_pod_eviction_policy"`
	Selector                   *metav1.LabelSelector `json:"selector"`
	CurrentHealthy             int32                 `json:"current_healthy"`
	DesiredHealthy             int32                 `json:"desired_healthy"`
	ExpectedPods               int32                 `json:"expected_pods"`
	DisruptionsAllowed         int32                 `json:"disruptions_allowed"`
	Generation                 int64                 `json:"generation"`
	ObservedGeneration         int64                 `json:"observed_generation"`
}

// Disruption is the API server's answer to the eviction as far as it can be known: its code and
// reason, and our explanation of them.
type Disruption struct {
	Allowed bool `json:"allowed"`
	// Code is the HTTP status: 201, 429, 403 or 500.
	Code int32 `json:"code"`
	// Reason is the API server's status reason; it has none for 201 and 500.
	Reason string `json:"reason"`
	// Message is the API server's own sentence; empty when allowed.
	Message string `json:"message"`
	// Cause is the API server's DisruptionBudget cause; empty when it gives none.
	Cause string `json:"cause"`
	// Detail explains: which budget, what it needs and has, which pods block, what unblocks it. It
	// is the same for every pod of the workload.
	Detail string `json:"detail"`
	// Budgets names the budgets that decide, sorted.
	Budgets []string `json:"budgets"`
	// Blockers are the pods that the budget waits for, sorted by name.
	Blockers []Blocker `json:"blockers"`
	// Cures says what unblocks it, in the order a person would try.
	Cures []string `json:"cures"`
}

// Blocker is a pod that keeps a budget from allowing a disruption.
type Blocker struct {
	Name string `json:"name"`
	// Why is the reason in Kubernetes' own word, for example CrashLoopBackOff or Terminating.
	Why string `json:"why"`
	// Detail is what Kubernetes says about it, for example the scheduler's message or the finalizers
	// that hold a terminating pod.
	Detail string `json:"detail"`
	// Since is when that began; null when it is not known.
	Since *metav1.Time `json:"since"`
	// Until is when the grace period of a terminating pod ends; null for others.
	Until *metav1.Time `json:"until"`
}

// Claim is a persistent volume claim that the pod mounts.
type Claim struct {
	Name string `json:"name"`
	// Volume is the bound PersistentVolume; empty while the claim is not bound.
	Volume       string `json:"volume"`
	StorageClass string `json:"storage_class"`
	// NodeLocal is true when the volume can be used on one node only: it is a local or hostPath volume,
	// or its node affinity names a host.
	NodeLocal bool `json:"node_local"`
}

// Cluster sums up the cluster's nodes.
type Cluster struct {
	Nodes      int32 `json:"nodes"`
	ReadyNodes int32 `json:"ready_nodes"`
	// NotReadyNodes names the first ten of those that are not ready, sorted.
	NotReadyNodes []string `json:"not_ready_nodes"`
}

// History lists when evictions that share something with this one happened, newest first, those included that
// were admitted and may still happen: the last 24 hours, at most 200 in each list, and no more than the policies
// say by METADATA custom.history_depth that they look at. The pod's own are left out: a client that tries again is not counted twice.
type History struct {
	Owner     []metav1.Time `json:"owner"`
	Node      []metav1.Time `json:"node"`
	Namespace []metav1.Time `json:"namespace"`
	Zone      []metav1.Time `json:"zone"`
	Cluster   []metav1.Time `json:"cluster"`
	// Holds says since when policies have refused this pod's eviction without a pause, by the name of
	// the binding.
	Holds map[string]metav1.Time `json:"holds"`
}

// historyLists are the lists of a History by their names in the input.
var historyLists = map[string]func(*History) *[]metav1.Time{
	"owner":     func(h *History) *[]metav1.Time { return &h.Owner },
	"node":      func(h *History) *[]metav1.Time { return &h.Node },
	"namespace": func(h *History) *[]metav1.Time { return &h.Namespace },
	"zone":      func(h *History) *[]metav1.Time { return &h.Zone },
	"cluster":   func(h *History) *[]metav1.Time { return &h.Cluster },
}

var historyListNames = slices.Sorted(maps.Keys(historyLists))

// HistoryLists are the names of the lists of a History, sorted. Callers do not change them.
func HistoryLists() []string { return historyListNames }

// List is the list of a name that HistoryLists has.
func (h *History) List(name string) *[]metav1.Time { return historyLists[name](h) }

// PodReady reports whether the pod's Ready condition is true; a pod without one is not ready, as
// for the API server (k8s.io/kubernetes/pkg/api/v1/pod.IsPodReady).
func PodReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// BudgetIgnored reports whether the API server evicts the pod without looking at budgets: it is
// Pending, finished or terminating. Such pods are always admitted here, too.
// Source: canIgnorePDB in k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go.
func BudgetIgnored(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed:
		return true
	}
	return pod.DeletionTimestamp != nil
}
