package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

var now = time.Date(2026, 11, 23, 13, 0, 0, 0, time.FixedZone("", 3600))

func ptr[T any](v T) *T { return &v }

// storeOf is a cluster with the objects.
func storeOf(t interface{ Fatalf(string, ...any) }, objs ...runtime.Object) *Store {
	s := newSnapshot()
	for _, obj := range objs {
		if err := s.Put(obj.DeepCopyObject()); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	return s.Store
}

// meta is an object of namespace shop; its UID is its name with "-uid".
func meta(name string, owner ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name + "-uid")}
	if len(owner) > 0 {
		m.OwnerReferences = []metav1.OwnerReference{
			{Kind: "Other", Name: "other", UID: "other-uid"},
			{Kind: owner[0], Name: owner[1], UID: types.UID(owner[1] + "-uid"), Controller: ptr(true)},
		}
	}
	return m
}

// pod is a ready pod of an owner, given as kind and name.
func pod(name string, owner []string, options ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(name, owner...), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}}
	p.Labels = map[string]string{"app": "web"}
	for _, o := range options {
		o(p)
	}
	return p
}

func unready(p *corev1.Pod)  { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func finished(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
func leaving(p *corev1.Pod)  { p.DeletionTimestamp = ptr(metav1.NewTime(now)) }

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func uid(u types.UID) func(*corev1.Pod) { return func(p *corev1.Pod) { p.UID = u } }

// web is a budget that selects the pods of web and allows none.
func web(options ...func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := budgetNamed("shop", "web", selecting(map[string]string{"app": "web"}))
	b.Spec.MinAvailable = ptr(intstr.FromString("50%"))
	b.Status = policyv1.PodDisruptionBudgetStatus{CurrentHealthy: 2, DesiredHealthy: 2, ExpectedPods: 3}
	for _, o := range options {
		o(b)
	}
	return b
}

func allowing(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = 1 }

// reading are the needs of a set whose one policy reads the refs.
func reading(t testing.TB, refs ...string) *policies.Needs {
	t.Helper()
	text := "package eviction.x\n\nwarn contains \"x\" if {\n\tinput.request.name != \"\"\n"
	for _, r := range refs {
		text += "\tis_null(" + r + ")\n"
	}
	set, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte(text + "}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return set.Needs()
}

var evictWeb = policies.Request{UID: "r", Namespace: "shop", Name: "web-0", Evictor: "user"}

func withUID(u types.UID) policies.Request {
	r := evictWeb
	r.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &u}}
	return r
}

func TestGatherFindsTheOwner(t *testing.T) {
	type objects = []runtime.Object
	replicaSet := func(name string, replicas int32, owner ...string) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{ObjectMeta: meta(name, owner...), Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}}
	}
	owner := func(kind, name string, replicas, ready, missing *int32) *policies.Owner {
		return &policies.Owner{Kind: kind, Name: name, UID: name + "-uid", Replicas: replicas, ReadyReplicas: ready, MissingReplicas: missing}
	}
	n := func(i int32) *int32 { return &i }
	for name, tt := range map[string]struct {
		objects objects
		owner   *policies.Owner
		peers   []string
	}{
		"a bare pod has none": {objects{pod("web-0", nil), pod("web-1", nil)}, nil, nil},
		"a Deployment, in a rollout over two ReplicaSets": {
			objects{
				&appsv1.Deployment{ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Replicas: n(5)}},
				replicaSet("web-a", 2, "Deployment", "web"), replicaSet("web-b", 3, "Deployment", "web"), replicaSet("db-a", 3, "Deployment", "db"),
				pod("web-0", []string{"ReplicaSet", "web-a"}), pod("web-1", []string{"ReplicaSet", "web-a"}, unready),
				pod("web-2", []string{"ReplicaSet", "web-b"}), pod("web-3", []string{"ReplicaSet", "web-b"}, leaving), pod("web-4", []string{"ReplicaSet", "web-b"}, finished),
				pod("db-0", []string{"ReplicaSet", "db-a"}),
			},
			owner("Deployment", "web", n(5), n(2), n(2)), []string{"web-1", "web-2", "web-3", "web-4"},
		},
		"a Deployment that states no number has one": {
			objects{&appsv1.Deployment{ObjectMeta: meta("web")}, replicaSet("web-a", 1, "Deployment", "web"), pod("web-0", []string{"ReplicaSet", "web-a"})},
			owner("Deployment", "web", n(1), n(1), n(0)), nil,
		},
		"a Deployment that is scaled down misses none": {
			objects{
				&appsv1.Deployment{ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Replicas: n(1)}}, replicaSet("web-a", 1, "Deployment", "web"),
				pod("web-0", []string{"ReplicaSet", "web-a"}), pod("web-1", []string{"ReplicaSet", "web-a"}),
			},
			owner("Deployment", "web", n(1), n(2), n(0)), []string{"web-1"},
		},
		"a Deployment that is not known": {
			objects{replicaSet("web-a", 2, "Deployment", "web"), pod("web-0", []string{"ReplicaSet", "web-a"})},
			owner("Deployment", "web", nil, n(1), nil), nil,
		},
		"a ReplicaSet of its own": {
			objects{replicaSet("web", 2), pod("web-0", []string{"ReplicaSet", "web"})},
			owner("ReplicaSet", "web", n(2), n(1), n(1)), nil,
		},
		"a ReplicaSet that states no number has one": {
			objects{&appsv1.ReplicaSet{ObjectMeta: meta("web")}, pod("web-0", []string{"ReplicaSet", "web"})},
			owner("ReplicaSet", "web", n(1), n(1), n(0)), nil,
		},
		"a ReplicaSet that is not known": {
			objects{pod("web-0", []string{"ReplicaSet", "web"}), pod("web-1", []string{"ReplicaSet", "web"})},
			owner("ReplicaSet", "web", nil, n(2), nil), []string{"web-1"},
		},
		"a ReplicaSet below a custom controller": {
			objects{replicaSet("web-a", 2, "Rollout", "web"), replicaSet("web-b", 1, "Rollout", "web"), pod("web-0", []string{"ReplicaSet", "web-a"}), pod("web-1", []string{"ReplicaSet", "web-b"})},
			owner("Rollout", "web", nil, n(2), nil), []string{"web-1"},
		},
		"a StatefulSet": {
			objects{&appsv1.StatefulSet{ObjectMeta: meta("web"), Spec: appsv1.StatefulSetSpec{Replicas: n(3)}}, pod("web-0", []string{"StatefulSet", "web"}), pod("web-1", []string{"StatefulSet", "web"})},
			owner("StatefulSet", "web", n(3), n(2), n(1)), []string{"web-1"},
		},
		"a DaemonSet": {
			objects{&appsv1.DaemonSet{ObjectMeta: meta("web"), Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 4}}, pod("web-0", []string{"DaemonSet", "web"}, unready)},
			owner("DaemonSet", "web", n(4), n(0), n(3)), nil,
		},
		"a ReplicationController": {
			objects{&corev1.ReplicationController{ObjectMeta: meta("web"), Spec: corev1.ReplicationControllerSpec{Replicas: n(2)}}, pod("web-0", []string{"ReplicationController", "web"})},
			owner("ReplicationController", "web", n(2), n(1), n(1)), nil,
		},
		"a Job": {
			objects{&batchv1.Job{ObjectMeta: meta("web"), Spec: batchv1.JobSpec{Parallelism: n(2)}}, pod("web-0", []string{"Job", "web"})},
			owner("Job", "web", n(2), n(1), n(1)), nil,
		},
		"a Job of a CronJob": {
			objects{&batchv1.Job{ObjectMeta: meta("web-1", "CronJob", "web")}, pod("web-0", []string{"Job", "web-1"}), pod("web-9", []string{"Job", "web-2"})},
			owner("CronJob", "web", n(1), n(1), n(0)), nil,
		},
		"a Job that is not known": {objects{pod("web-0", []string{"Job", "web"})}, owner("Job", "web", nil, n(1), nil), nil},
		"a custom controller": {
			objects{pod("web-0", []string{"Cluster", "web"}), pod("web-1", []string{"Cluster", "web"}, unready)},
			owner("Cluster", "web", nil, n(1), nil), []string{"web-1"},
		},
		"samples written by hand, without UIDs of pods": {
			objects{pod("web-0", []string{"StatefulSet", "web"}, uid("")), pod("web-1", []string{"StatefulSet", "web"}, uid(""))},
			owner("StatefulSet", "web", nil, n(2), nil), []string{"web-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := Gatherer{Store: storeOf(t, tt.objects...)}
			in, _ := g.Gather(t.Context(), evictWeb, reading(t, "input.owner", "input.peers"), now)
			if diff := gocmp.Diff(tt.owner, in.Owner); diff != "" {
				t.Errorf("owner -want +got:\n%s", diff)
			}
			var peers []string
			for _, p := range in.Peers {
				peers = append(peers, p.Name)
			}
			if diff := gocmp.Diff(tt.peers, peers); diff != "" {
				t.Errorf("peers -want +got:\n%s", diff)
			}
		})
	}
}

// surroundings is a cluster in which everything an Input can hold is there.
func surroundings(t testing.TB) *Store {
	node := func(name, zone string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}, Annotations: map[string]string{"a": "b"}},
			Spec:       corev1.NodeSpec{Unschedulable: name == "n1", Taints: []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: "False"}, {Type: corev1.NodeReady, Status: "True"}}},
		}
	}
	return storeOf(t,
		node("n1", "east"), node("n2", "west"),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "prod"}, Annotations: map[string]string{"c": "d"}}},
		&appsv1.StatefulSet{ObjectMeta: meta("web"), Spec: appsv1.StatefulSetSpec{Replicas: ptr[int32](4)}},
		pod("web-0", []string{"StatefulSet", "web"}, on("n1")), pod("web-2", []string{"StatefulSet", "web"}, on("n2"), unready, leaving), pod("web-1", []string{"StatefulSet", "web"}, on("gone")),
		web(allowing),
	)
}

func TestGatherOnlyWhatIsRead(t *testing.T) {
	store := surroundings(t)
	webPod, _ := store.Pod("shop", "web-0")
	// What every Input has: the pod, its budgets, and the owner's name.
	base := func(options ...func(*policies.Input)) *policies.Input {
		in := &policies.Input{
			Now: metav1.NewTime(now.UTC()), Request: evictWeb, Pod: webPod,
			Owner: &policies.Owner{Kind: "StatefulSet", Name: "web", UID: "web-uid", Replicas: ptr[int32](4)},
			Budgets: []policies.Budget{{
				Name: "web", MinAvailable: ptr("50%"), Selector: selecting(map[string]string{"app": "web"}),
				CurrentHealthy: 2, DesiredHealthy: 2, ExpectedPods: 3, DisruptionsAllowed: 1,
			}},
			Disruption: &policies.Disruption{Allowed: true, Code: 201, Budgets: []string{"web"}, Blockers: []policies.Blocker{}, Cures: []string{}},
		}
		for _, o := range options {
			o(in)
		}
		return in
	}
	numbers := func(in *policies.Input) {
		in.Owner.ReadyReplicas, in.Owner.MissingReplicas = ptr[int32](2), ptr[int32](2)
	}
	node := func(in *policies.Input) {
		in.Node = &policies.Node{
			Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "east"}, Annotations: map[string]string{"a": "b"},
			Unschedulable: true, Ready: true, Taints: []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}},
		}
	}
	namespace := func(in *policies.Input) {
		in.Namespace = &policies.Namespace{Name: "shop", Labels: map[string]string{"tier": "prod"}, Annotations: map[string]string{"c": "d"}}
	}
	peers := func(in *policies.Input) {
		in.Peers = []policies.Peer{
			{Name: "web-1", Node: "gone", Ready: true, Phase: "Running"},
			{Name: "web-2", Node: "n2", Zone: "west", Phase: "Running", Terminating: true},
		}
	}
	neighbours := func(in *policies.Input) {
		label := map[string]string{"app": "web"}
		in.Neighbours = []policies.Neighbour{
			{Labels: label, Peer: policies.Peer{Name: "web-1", Node: "gone", Ready: true, Phase: "Running"}},
			{Labels: label, Peer: policies.Peer{Name: "web-2", Node: "n2", Zone: "west", Phase: "Running", Terminating: true}},
		}
	}
	nodes := func(in *policies.Input) {
		in.Cluster = &policies.Cluster{Nodes: 2, ReadyNodes: 2}
	}
	for name, tt := range map[string]struct {
		refs []string
		want *policies.Input
	}{
		"nothing":                      {nil, base()},
		"the owner's name":             {[]string{"input.owner.name"}, base()},
		"the owner's ready replicas":   {[]string{"input.owner.ready_replicas"}, base(numbers)},
		"the owner's missing replicas": {[]string{"input.owner.missing_replicas"}, base(numbers)},
		"a peer's zone":                {[]string{"input.peers[0].zone"}, base(numbers, peers)},
		"the node's readiness":         {[]string{"input.node.ready"}, base(node)},
		"a label of the namespace":     {[]string{"input.namespace.labels.tier"}, base(namespace)},
		"a neighbour's labels":         {[]string{"input.neighbours[0].labels.app"}, base(neighbours)},
		"the number of nodes":          {[]string{"input.cluster.nodes"}, base(nodes)},
		"everything":                   {[]string{"input"}, base(numbers, node, namespace, peers, neighbours, nodes)},
	} {
		t.Run(name, func(t *testing.T) {
			in, confirmation := (&Gatherer{Store: store}).Gather(t.Context(), evictWeb, reading(t, tt.refs...), now)
			if diff := gocmp.Diff(tt.want, in, cmpopts.EquateEmpty()); diff != "" || confirmation != NotAsked {
				t.Errorf("confirmation %q, -want +got:\n%s", confirmation, diff)
			}
		})
	}
}

func TestGatherWhatIsNotKnown(t *testing.T) {
	unknown := &policies.Input{Now: metav1.NewTime(now.UTC()), Request: evictWeb, Namespace: &policies.Namespace{Name: "shop"}, Cluster: &policies.Cluster{NotReadyNodes: []string{}}}
	in, _ := (&Gatherer{Store: storeOf(t)}).Gather(t.Context(), evictWeb, policies.EverythingNeeded(), now)
	if diff := gocmp.Diff(unknown, in); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// fakeLive is an API server with some objects, or one that fails.
type fakeLive struct {
	pod            *corev1.Pod
	budget         []*policyv1.PodDisruptionBudget
	err, budgetErr error
	asked          []string
}

func (f *fakeLive) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	f.asked = append(f.asked, "pod "+namespace+"/"+name)
	switch {
	case f.err != nil:
		return nil, f.err
	case f.pod == nil:
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	}
	return f.pod, nil
}

func (f *fakeLive) Budget(_ context.Context, namespace, name string) (*policyv1.PodDisruptionBudget, error) {
	f.asked = append(f.asked, "budget "+namespace+"/"+name)
	if f.budgetErr != nil {
		return nil, f.budgetErr
	}
	for _, b := range f.budget {
		if b.Name == name {
			return b, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "policy", Resource: "poddisruptionbudgets"}, name)
}

func TestGatherConfirmsARefusal(t *testing.T) {
	type budgets = []*policyv1.PodDisruptionBudget
	cached, newer := pod("web-0", nil), pod("web-0", nil, uid("new-uid"))
	both := []string{"pod shop/web-0", "budget shop/web"}
	second := web(func(b *policyv1.PodDisruptionBudget) { b.Name = "web-2" })
	for name, tt := range map[string]struct {
		request      policies.Request
		objects      []runtime.Object
		live         *fakeLive
		confirmation Confirmation
		uid          types.UID // of the pod that is decided on; empty when there is none
		code         int32     // of the disruption; 0 when there is none
		asked        []string
	}{
		"what the cache allows is not read again": {
			objects: []runtime.Object{cached, web(allowing)}, live: &fakeLive{}, confirmation: NotAsked, uid: "web-0-uid", code: 201,
		},
		"confirmed": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: cached, budget: budgets{web()}}, confirmation: Confirmed, uid: "web-0-uid", code: 429, asked: both,
		},
		"refuted: the budget allows by now": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: cached, budget: budgets{web(allowing)}}, confirmation: Refuted, uid: "web-0-uid", code: 201, asked: both,
		},
		"refuted: the budget is gone": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: cached}, confirmation: Refuted, uid: "web-0-uid", code: 201, asked: both,
		},
		"refuted: the budget selects other pods by now": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: cached, budget: budgets{web(func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = selecting(map[string]string{"app": "db"}) })}},
			confirmation: Refuted, uid: "web-0-uid", code: 201, asked: both,
		},
		"refuted: one of two budgets is gone, and the other allows": {
			objects: []runtime.Object{cached, web(), second}, live: &fakeLive{pod: cached, budget: budgets{web(allowing)}},
			confirmation: Refuted, uid: "web-0-uid", code: 201, asked: append(both, "budget shop/web-2"),
		},
		"confirmed: two budgets": {
			objects: []runtime.Object{cached, web(allowing), second}, live: &fakeLive{pod: cached, budget: budgets{web(allowing), second}},
			confirmation: Confirmed, uid: "web-0-uid", code: 500, asked: append(both, "budget shop/web-2"),
		},
		"refuted: the pod is terminating by now": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: pod("web-0", nil, leaving), budget: budgets{web()}}, confirmation: Refuted, uid: "web-0-uid", code: 201, asked: both,
		},
		"the pod is gone": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{}, confirmation: Refuted, asked: both[:1],
		},
		"the pod was created anew, and is decided on": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: newer, budget: budgets{web()}}, confirmation: Confirmed, uid: "new-uid", code: 429, asked: both,
		},
		"the pod was created anew, and the Eviction means the old one": {
			request: withUID("web-0-uid"), objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: newer, budget: budgets{web()}}, confirmation: Refuted, asked: both,
		},
		"unreachable: the cache decides": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{err: errors.New("down")}, confirmation: Unreachable, uid: "web-0-uid", code: 429, asked: both[:1],
		},
		"unreachable after the pod was read": {
			objects: []runtime.Object{cached, web()}, live: &fakeLive{pod: cached, budgetErr: errors.New("down")}, confirmation: Unreachable, uid: "web-0-uid", code: 429, asked: both,
		},
		"a pod that the cache lacks is read live": {
			objects: []runtime.Object{web(allowing)}, live: &fakeLive{pod: cached}, confirmation: NotAsked, uid: "web-0-uid", code: 201, asked: both[:1],
		},
		"a pod that nobody has": {
			objects: []runtime.Object{web()}, live: &fakeLive{}, confirmation: NotAsked, asked: both[:1],
		},
		"a pod that the cache lacks, and that cannot be read": {
			objects: []runtime.Object{web()}, live: &fakeLive{err: errors.New("down")}, confirmation: Unreachable, asked: both[:1],
		},
		"the precondition names the cached pod": {
			request: withUID("web-0-uid"), objects: []runtime.Object{cached, web(allowing)}, live: &fakeLive{}, confirmation: NotAsked, uid: "web-0-uid", code: 201,
		},
		"the precondition names a pod younger than the cache": {
			request: withUID("new-uid"), objects: []runtime.Object{cached, web(allowing)}, live: &fakeLive{pod: newer}, confirmation: NotAsked, uid: "new-uid", code: 201, asked: both[:1],
		},
		"the precondition names a pod that is gone": {
			request: withUID("old-uid"), objects: []runtime.Object{cached, web(allowing)}, live: &fakeLive{pod: cached}, confirmation: NotAsked, asked: both[:1],
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.request.Name == "" {
				tt.request = evictWeb
			}
			g := Gatherer{Store: storeOf(t, tt.objects...), Live: tt.live}
			in, confirmation := g.Gather(t.Context(), tt.request, policies.EverythingNeeded(), now)
			var gotUID types.UID
			if in.Pod != nil {
				gotUID = in.Pod.UID
			}
			var code int32
			if in.Disruption != nil {
				code = in.Disruption.Code
			}
			want := []any{tt.confirmation, tt.uid, tt.code, tt.asked}
			if diff := gocmp.Diff(want, []any{confirmation, gotUID, code, tt.live.asked}); diff != "" {
				t.Errorf("confirmation, pod, code, asked -want +got:\n%s", diff)
			}
		})
	}
}

func TestWithoutAnAPIServerTheSnapshotDecides(t *testing.T) {
	g := Gatherer{Store: storeOf(t, pod("web-0", nil), web())}
	in, confirmation := g.Gather(t.Context(), evictWeb, policies.EverythingNeeded(), now)
	if confirmation != NotAsked || in.Disruption.Code != 429 {
		t.Errorf("confirmation %q, code %d", confirmation, in.Disruption.Code)
	}
	if in, _ := g.Gather(t.Context(), withUID("other"), policies.EverythingNeeded(), now); in.Pod != nil {
		t.Errorf("another pod than the precondition names is decided on")
	}
}

// The order in which budgets and pods came to be known changes nothing: neither the Input nor, with it,
// the decision.
func TestTheInputDoesNotDependOnTheOrderOfBudgetsAndPeers(t *testing.T) {
	set, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		objs := []runtime.Object{pod("web-0", []string{"StatefulSet", "web"}), &appsv1.StatefulSet{ObjectMeta: meta("web"), Spec: appsv1.StatefulSetSpec{Replicas: ptr[int32](4)}}}
		for i := range rapid.IntRange(0, 3).Draw(t, "peers") {
			objs = append(objs, pod(fmt.Sprint("web-", i+1), []string{"StatefulSet", "web"}, rapid.SampledFrom([]func(*corev1.Pod){unready, leaving, finished, on("n")}).Draw(t, "state")))
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "budgets") {
			objs = append(objs, web(func(b *policyv1.PodDisruptionBudget) { b.Name = fmt.Sprint("b-", i) }, rapid.SampledFrom([]func(*policyv1.PodDisruptionBudget){allowing, func(*policyv1.PodDisruptionBudget) {}}).Draw(t, "allows")))
		}
		gather := func(objs []runtime.Object) (*policies.Input, *policies.Decision) {
			in, _ := (&Gatherer{Store: storeOf(t, objs...)}).Gather(context.Background(), evictWeb, set.Needs(), now)
			return in, set.Evaluate(context.Background(), in, policies.Options{})
		}
		in, d := gather(objs)
		in2, d2 := gather(rapid.Permutation(objs).Draw(t, "order"))
		if diff := gocmp.Diff(in, in2); diff != "" {
			t.Fatalf("input -one +other:\n%s", diff)
		}
		if diff := gocmp.Diff(d, d2, cmpopts.IgnoreFields(policies.Decision{}, "Duration")); diff != "" {
			t.Fatalf("decision -one +other:\n%s", diff)
		}
		if !slices.IsSorted(in.Disruption.Budgets) {
			t.Fatalf("budgets are not sorted: %q", in.Disruption.Budgets)
		}
	})
}

func TestWantedCountsWhatControllersWant(t *testing.T) {
	five := int32(5)
	s := newSnapshot()
	pod := func(name, kind, owner string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}}
		if kind != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: owner, UID: types.UID(owner), Controller: &yes}}
		}
		return p
	}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &five}}
	if err := s.Put(set); err != nil {
		t.Fatal(err)
	}
	g := Gatherer{Store: s.Store}
	for name, tt := range map[string]struct {
		pods []*corev1.Pod
		want int
	}{
		"none":                            {nil, 0},
		"two of a StatefulSet of five":    {[]*corev1.Pod{pod("db-0", "StatefulSet", "db"), pod("db-1", "StatefulSet", "db")}, 5},
		"bare pods count as they are":     {[]*corev1.Pod{pod("a", "", ""), pod("b", "", "")}, 2},
		"an owner whose number is hidden": {[]*corev1.Pod{pod("a", "Fleet", "boats"), pod("b", "Fleet", "boats")}, 2},
		"several owners":                  {[]*corev1.Pod{pod("db-0", "StatefulSet", "db"), pod("a", "Fleet", "boats"), pod("b", "", "")}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			if got := g.Wanted(tt.pods); got != tt.want {
				t.Errorf("%d are wanted, expected %d", got, tt.want)
			}
		})
	}
}

func TestNeighboursThatShareALabel(t *testing.T) {
	labelled := func(key, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Labels = map[string]string{key: value, "app": "all"} }
	}
	g := &Gatherer{Store: storeOf(t,
		pod("web-0", nil, labelled("gang", "a")), pod("web-1", nil, labelled("gang", "a")), pod("web-2", nil, labelled("gang", "b")),
		pod("web-3", nil, labelled("group", "a")), pod("lone", nil, labelled("gang", "")),
	)}
	for evicted, want := range map[string][]string{"web-0": {"web-1"}, "web-2": nil, "web-3": nil, "lone": nil} {
		p, _ := g.Pod("shop", evicted)
		var got []string
		for _, n := range g.neighbours(&policies.Input{Pod: p}, policies.NeighbourLabels{Labels: []string{"gang", "other"}}) {
			got = append(got, n.Name)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("of %s, -want +got:\n%s", evicted, diff)
		}
		if all := g.neighbours(&policies.Input{Pod: p}, policies.NeighbourLabels{All: true}); len(all) != 4 {
			t.Errorf("of %s: %d in all", evicted, len(all))
		}
	}
}

// A pod whose eviction was just admitted counts as leaving for its peers, and not for itself.
func TestPodsThatLeave(t *testing.T) {
	store := surroundings(t)
	leaving := func(uid types.UID, _ time.Time) bool { return uid == "web-1-uid" }
	g := &Gatherer{Store: store, Leaving: leaving}
	in, _ := g.Gather(t.Context(), evictWeb, policies.EverythingNeeded(), now)
	before, _ := (&Gatherer{Store: store}).Gather(t.Context(), evictWeb, policies.EverythingNeeded(), now)
	if *in.Owner.ReadyReplicas != *before.Owner.ReadyReplicas-1 || *in.Owner.MissingReplicas != *before.Owner.MissingReplicas+1 {
		t.Errorf("%d ready and %d missing, before it was admitted %d and %d", *in.Owner.ReadyReplicas, *in.Owner.MissingReplicas, *before.Owner.ReadyReplicas, *before.Owner.MissingReplicas)
	}
	if !in.Peers[0].Terminating || before.Peers[0].Terminating || !in.Neighbours[0].Terminating {
		t.Errorf("peers %+v, neighbours %+v", in.Peers, in.Neighbours)
	}
	own, _ := g.Gather(t.Context(), policies.Request{Namespace: "shop", Name: "web-1", Evictor: "user"}, policies.EverythingNeeded(), now)
	if diff := gocmp.Diff(before.Owner, own.Owner); diff != "" {
		t.Errorf("tried again, -want +got:\n%s", diff)
	}
}

// stuckLive is an API server that does not answer.
type stuckLive struct{}

func (stuckLive) Pod(ctx context.Context, _, _ string) (*corev1.Pod, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (stuckLive) Budget(ctx context.Context, _, _ string) (*policyv1.PodDisruptionBudget, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestLiveReadsLeaveTimeToDecide(t *testing.T) {
	for name, objects := range map[string][]runtime.Object{
		"a refusal is confirmed":           {pod("web-0", nil), web()},
		"a pod that the cache lacks":       {web()},
		"a pod that the cache lacks alone": {},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		g := Gatherer{Store: storeOf(t, objects...), Live: stuckLive{}}
		if _, confirmation := g.Gather(ctx, evictWeb, policies.EverythingNeeded(), now); confirmation != Unreachable {
			t.Errorf("%s: confirmation %q", name, confirmation)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: no time is left", name)
		}
		cancel()
	}
}
