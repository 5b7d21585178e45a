package cluster

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evictgate/evictgate/policies"
)

// apiServer has objects by kind and name, and may be away.
type apiServer struct {
	objects map[string]runtime.Object
	err     error
	asked   []string
}

func (a *apiServer) Object(_ context.Context, kind, _, name string) (runtime.Object, error) {
	a.asked = append(a.asked, kind+"/"+name)
	if a.err != nil {
		return nil, a.err
	}
	if obj := a.objects[kind+"/"+name]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
}

// doubted is a cache that has a pod web-0 on node n1, of Deployment web, in namespace shop; and the API server's state.
func doubted(t *testing.T) (*Gatherer, *apiServer) {
	owned := pod("web-0", []string{"ReplicaSet", "web-1"}, on("n1"))
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "old"}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("web-1", "Deployment", "web")}
	deployment := &appsv1.Deployment{ObjectMeta: meta("web")}
	store := storeOf(t, owned.DeepCopy(), namespace.DeepCopy(), node.DeepCopy(), rs.DeepCopy(), deployment.DeepCopy())
	store.pulses = map[string]*pulse{}
	for _, kind := range kinds {
		p, _ := ticking()
		p.kind = kind.name
		p.listed()
		p.watching()
		store.pulses[p.kind] = p
	}
	owned.Annotations = map[string]string{"protected": "true"}
	namespace.Labels = map[string]string{"team": "new"}
	node.Spec.Unschedulable = true
	deployment.Spec.Replicas = ptr(int32(7))
	server := &apiServer{objects: map[string]runtime.Object{
		"Pod/web-0": owned, "Namespace/shop": namespace, "Node/n1": node, "ReplicaSet/web-1": rs, "Deployment/web": deployment,
	}}
	return &Gatherer{Store: store, Objects: server}, server
}

// fails lets the watch of kinds fail.
func (s *Store) fails(err error, kinds ...string) {
	for _, kind := range kinds {
		s.pulses[kind].failed(err)
	}
}

func TestWhatIsInDoubtIsReadLive(t *testing.T) {
	all := []string{"input.pod", "input.namespace.labels", "input.node", "input.owner.replicas"}
	for name, tt := range map[string]struct {
		refs      []string
		before    func(*Gatherer, *policies.Request)
		confirmed []string
		asked     []string
		check     func(*policies.Input) bool
	}{
		"all is known and healthy": {all, func(*Gatherer, *policies.Request) {}, nil, nil,
			func(in *policies.Input) bool { return in.Pod.Annotations["protected"] == "" }},
		"the watch of pods fails": {all, func(g *Gatherer, _ *policies.Request) { g.fails(errForbidden, "Pod") },
			[]string{"pod"}, []string{"Pod/web-0"},
			func(in *policies.Input) bool { return in.Pod.Annotations["protected"] == "true" }},
		"the watch of what no policy reads fails": {[]string{"input.pod"}, func(g *Gatherer, _ *policies.Request) {
			g.fails(errForbidden, "Namespace", "Node", "ReplicaSet", "PodDisruptionBudget", "PersistentVolume")
		}, nil, nil, nil},
		"the namespace is not known": {all, func(g *Gatherer, _ *policies.Request) { _ = g.namespaces.Replace(nil, "") },
			[]string{"namespace"}, []string{"Namespace/shop"},
			func(in *policies.Input) bool { return in.Namespace.Labels["team"] == "new" }},
		"the namespace is not known, and no policy reads it": {[]string{"input.pod"}, func(g *Gatherer, _ *policies.Request) { _ = g.namespaces.Replace(nil, "") }, nil, nil, nil},
		"the node is not known": {all, func(g *Gatherer, _ *policies.Request) { _ = g.nodes.Replace(nil, "") },
			[]string{"node"}, []string{"Node/n1"},
			func(in *policies.Input) bool { return in.Node.Unschedulable }},
		"the ReplicaSet is not known": {all, func(g *Gatherer, _ *policies.Request) { _ = g.replicaSets.Replace(nil, "") },
			[]string{"owner"}, []string{"ReplicaSet/web-1", "Deployment/web"},
			func(in *policies.Input) bool { return in.Owner.Kind == "Deployment" && *in.Owner.Replicas == 7 }},
		"the Deployment is not known": {all, func(g *Gatherer, _ *policies.Request) { _ = g.deployments.Replace(nil, "") },
			[]string{"owner"}, []string{"ReplicaSet/web-1", "Deployment/web"},
			func(in *policies.Input) bool { return *in.Owner.Replicas == 7 }},
		"everything fails": {all, func(g *Gatherer, _ *policies.Request) {
			g.fails(errForbidden, "Pod", "Namespace", "Node", "ReplicaSet")
		},
			[]string{"namespace", "node", "owner", "pod"}, []string{"Pod/web-0", "Namespace/shop", "Node/n1", "ReplicaSet/web-1", "Deployment/web"}, nil},
		"the eviction is of a newer version": {all, func(_ *Gatherer, r *policies.Request) {
			r.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr("999")}}
		}, []string{"pod"}, []string{"Pod/web-0"}, nil},
		"the eviction is of an older version": {all, func(_ *Gatherer, r *policies.Request) {
			r.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr("1")}}
		}, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g, server := doubted(t)
			for _, obj := range g.pods.List() {
				obj.(*corev1.Pod).ResourceVersion = "100" //nolint:forcetypeassert // pods are what the store has
			}
			r := evictWeb
			tt.before(g, &r)
			in, _ := g.Gather(t.Context(), r, reading(t, tt.refs...), now)
			if diff := cmp.Diff(tt.asked, server.asked, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("asked, -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tt.confirmed, in.Confirmed, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("confirmed, -want +got:\n%s", diff)
			}
			if in.Unknown != "" {
				t.Errorf("unknown: %s", in.Unknown)
			}
			if tt.check != nil && !tt.check(in) {
				t.Errorf("gathered %+v", in)
			}
		})
	}
}

func TestWhatIsNotKnownIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		refs   []string
		before func(*Gatherer, *apiServer)
		want   string
	}{
		"the rights were taken away": {[]string{"input.pod"}, func(g *Gatherer, s *apiServer) { g.fails(errForbidden, "Pod"); s.err = errForbidden },
			"the state of the pod is not known for sure: the watch of kind Pod fails (the API server answers 403 Forbidden), and reading it failed (the API server answers 403 Forbidden)"},
		"the API server is away": {[]string{"input.pod"}, func(g *Gatherer, s *apiServer) { g.fails(errRefused, "Pod"); s.err = errRefused },
			"the state of the pod is not known for sure: the watch of kind Pod fails (the API server is out of reach), and reading it failed (the API server is out of reach)"},
		"a new namespace": {[]string{"input.namespace.labels"}, func(g *Gatherer, s *apiServer) { _ = g.namespaces.Replace(nil, ""); s.err = errRefused },
			"the Namespace of the pod is not known for sure: the cache does not have it, and reading it failed (the API server is out of reach)"},
		"the other pods": {[]string{"input.peers"}, func(g *Gatherer, _ *apiServer) { g.fails(errForbidden, "Pod") },
			"the other pods are not known: the watch of kind Pod fails"},
		"the nodes": {[]string{"input.cluster.nodes"}, func(g *Gatherer, _ *apiServer) { g.fails(errForbidden, "Node") },
			"the nodes are not known: the watch of kind Node fails"},
		"the budgets": {[]string{"input.budgets"}, func(g *Gatherer, _ *apiServer) { g.fails(errForbidden, "PodDisruptionBudget") },
			"the budgets are not known: "},
		"the claims": {[]string{"input.claims"}, func(g *Gatherer, _ *apiServer) { g.fails(errForbidden, "PersistentVolumeClaim") },
			"the pod's claims are not known: "},
	} {
		t.Run(name, func(t *testing.T) {
			g, server := doubted(t)
			tt.before(g, server)
			in, _ := g.Gather(t.Context(), evictWeb, reading(t, tt.refs...), now)
			if in.Pod == nil || !strings.Contains(in.Unknown, tt.want) || strings.ContainsAny(in.Unknown, "\n") {
				t.Errorf("unknown: %q, want %q", in.Unknown, tt.want)
			}
		})
	}
}

// What is not there is known: the API server said so.
func TestWhatTheAPIServerDoesNotHaveIsKnown(t *testing.T) {
	g, server := doubted(t)
	_ = g.replicaSets.Replace(nil, "")
	_ = g.nodes.Replace(nil, "")
	server.objects = nil
	in, _ := g.Gather(t.Context(), evictWeb, reading(t, "input.owner.kind", "input.node"), now)
	if in.Unknown != "" || in.Node != nil || in.Owner.Kind != "ReplicaSet" || !slices.Equal(in.Confirmed, []string{"node", "owner"}) {
		t.Errorf("gathered %+v", in)
	}
	g.fails(errForbidden, "Pod")
	if in, _ = g.Gather(t.Context(), evictWeb, reading(t, "input.pod"), now); in.Pod != nil || in.Unknown != "" {
		t.Errorf("a pod that is gone: %+v", in)
	}
}

func BenchmarkDoubtsOfAHealthyCache(b *testing.B) {
	g := &Gatherer{Store: surroundings(b), Objects: &apiServer{}}
	g.pulses = map[string]*pulse{}
	for _, kind := range kinds {
		p := &pulse{kind: kind.name, now: time.Now}
		p.listed()
		p.watching()
		g.pulses[p.kind] = p
	}
	needs := reading(b, "input.pod", "input.namespace.labels", "input.node", "input.owner.replicas", "input.peers")
	in, _ := g.gather(b.Context(), evictWeb, needs, now)
	b.ReportAllocs()
	for b.Loop() {
		g.doubtsAbout(in, needs)
	}
}
