package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/policies"
)

// ObjectReader reads an object of a kind from the API server.
type ObjectReader interface {
	Object(ctx context.Context, kind, namespace, name string) (runtime.Object, error)
}

// doubts are what an Input rests on and the cache cannot be relied on for, or does not know.
type doubts struct {
	// pod, namespace, node and owner can be read from the API server.
	pod, namespace, node, owner bool
	// others says what cannot; empty when all is known.
	others string
}

func (d doubts) none() bool { return d == doubts{} }

// doubtsAbout finds what should be confirmed. For a cache that is healthy and knows all it costs a few look-ups.
func (g *Gatherer) doubtsAbout(in *policies.Input, needs *policies.Needs) doubts {
	pods := g.troubleWith("Pod")
	d := doubts{pod: pods != "" || newerWanted(in)}
	if needs.Reads("namespace") {
		_, known := get[*corev1.Namespace](g.namespaces, "", in.Request.Namespace)
		d.namespace = !known || g.troubleWith("Namespace") != ""
	}
	nodes := ""
	if readsNode(needs) && in.Pod.Spec.NodeName != "" {
		_, known := g.Node(in.Pod.Spec.NodeName)
		nodes = g.troubleWith("Node")
		d.node = !known || nodes != ""
	}
	if readsOwner(needs) {
		d.owner = !g.ownersKnown(in.Pod)
	}
	d.others = g.otherDoubts(needs, pods)
	return d
}

// newerWanted reports whether the eviction is of a newer version of the pod than the cache has.
func newerWanted(in *policies.Input) bool {
	o := in.Request.DeleteOptions
	if o == nil || o.Preconditions == nil || o.Preconditions.ResourceVersion == nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(*o.Preconditions.ResourceVersion, in.Pod.ResourceVersion)
	return err == nil && order > 0
}

// otherDoubts says what no single object confirms.
func (g *Gatherer) otherDoubts(needs *policies.Needs, pods string) string {
	switch {
	case pods != "" && (readsPeers(needs) || needs.Reads("neighbours")):
		return "the other pods are not known: " + pods
	case needs.Reads("cluster") && g.troubleWith("Node") != "":
		return "the nodes are not known: " + g.troubleWith("Node")
	case needs.Reads("budgets") && g.troubleWith("PodDisruptionBudget") != "":
		return "the budgets are not known: " + g.troubleWith("PodDisruptionBudget")
	case needs.Reads("claims") && g.troubleWith("PersistentVolumeClaim") != "":
		return "the pod's claims are not known: " + g.troubleWith("PersistentVolumeClaim")
	case needs.Reads("claims") && g.troubleWith("PersistentVolume") != "":
		return "the pod's volumes are not known: " + g.troubleWith("PersistentVolume")
	}
	return ""
}

// ownersKnown reports whether the cache knows the pod's controller and the one above it.
func (g *Gatherer) ownersKnown(pod *corev1.Pod) bool {
	for ref := metav1.GetControllerOfNoCopy(pod); ref != nil; {
		if !ownsPods(ref.Kind) {
			return true
		}
		if g.troubleWith(ref.Kind) != "" {
			return false
		}
		obj, ok := get[runtime.Object](*kindNamed[ref.Kind].indexer(g.Store), pod.Namespace, ref.Name)
		if !ok {
			return false
		}
		ref = controllerOf(obj)
	}
	return true
}

func controllerOf(obj runtime.Object) *metav1.OwnerReference {
	if o, ok := obj.(metav1.Object); ok {
		return metav1.GetControllerOfNoCopy(o)
	}
	return nil
}

// confirm reads what is in doubt from the API server, and gathers again. What could not be read is told by
// Input.Unknown; then the cache's state stands, which is good enough to refuse, but not to admit.
func (g *Gatherer) confirm(ctx context.Context, in *policies.Input, d doubts, needs *policies.Needs, before Confirmation) (*policies.Input, Confirmation) {
	view := *g.Store
	v := *g
	v.Store, v.Objects = &view, nil
	c := &confirming{Gatherer: &v, reader: g.Objects, namespace: in.Request.Namespace}
	if err := c.read(ctx, in, d); err != nil {
		in.Unknown = err.Error()
		return in, before
	}
	again, confirmation := v.gather(ctx, in.Request, needs, in.Now.Time)
	again.Confirmed, again.Unknown = c.confirmed, d.others
	return again, confirmation
}

// confirming is a view of the store that has what was read live.
type confirming struct {
	*Gatherer
	reader    ObjectReader
	namespace string
	confirmed []string
}

// read reads what is in doubt. Its error says for people what is not known.
func (c *confirming) read(ctx context.Context, in *policies.Input, d doubts) error {
	pod := in.Pod
	if d.pod {
		obj, err := c.one(ctx, "Pod", c.namespace, pod.Name)
		if err != nil {
			return err
		}
		fresh, ok := obj.(*corev1.Pod)
		c.confirmed = append(c.confirmed, policies.ConfirmedPod)
		if !ok {
			return nil // it is gone, and nothing else matters
		}
		pod = fresh
	}
	if d.namespace {
		if _, err := c.one(ctx, "Namespace", "", c.namespace); err != nil {
			return err
		}
		c.confirmed = append(c.confirmed, "namespace")
	}
	if d.node && pod.Spec.NodeName != "" {
		if _, err := c.one(ctx, "Node", "", pod.Spec.NodeName); err != nil {
			return err
		}
		c.confirmed = append(c.confirmed, "node")
	}
	if d.owner {
		if err := c.owners(ctx, pod); err != nil {
			return err
		}
		c.confirmed = append(c.confirmed, "owner")
	}
	slices.Sort(c.confirmed)
	return nil
}

// owners reads the pod's controller, and the one above it.
func (c *confirming) owners(ctx context.Context, pod *corev1.Pod) error {
	for ref := metav1.GetControllerOfNoCopy(pod); ref != nil; {
		if !ownsPods(ref.Kind) {
			return nil
		}
		obj, err := c.one(ctx, ref.Kind, pod.Namespace, ref.Name)
		if err != nil || obj == nil {
			return err
		}
		ref = controllerOf(obj)
	}
	return nil
}

// one reads an object and puts it before what the store has; nil is one that is not there.
func (c *confirming) one(ctx context.Context, kind, namespace, name string) (runtime.Object, error) {
	obj, err := c.reader.Object(ctx, kind, namespace, name)
	if apierrors.IsNotFound(err) {
		obj, err = nil, nil
	}
	if err != nil {
		why := c.troubleWith(kind)
		if why == "" {
			why = "the cache does not have it"
		}
		return nil, fmt.Errorf("%s of the pod is not known for sure: %s, and reading it failed (%s)", article(kind), why, sayWhy(err))
	}
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	place := kindNamed[kind].indexer(c.Store)
	*place = overlay{Indexer: *place, key: key, obj: obj}
	return obj, nil
}

// article names a kind in a sentence; the pod of the pod is its state.
func article(kind string) string {
	if kind == "Pod" {
		return "the state"
	}
	return "the " + kind
}

// overlay is an indexer with one object that was read live; nil is one that is gone.
type overlay struct {
	cache.Indexer
	key string
	obj runtime.Object
}

// GetByKey finds an object.
func (o overlay) GetByKey(key string) (any, bool, error) {
	if key != o.key {
		return o.Indexer.GetByKey(key)
	}
	return o.obj, o.obj != nil, nil
}

// ByIndex lists the objects with a value of an index.
func (o overlay) ByIndex(index, value string) ([]any, error) {
	found, err := o.Indexer.ByIndex(index, value)
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, len(found)+1)
	for _, obj := range found {
		if key, err := cache.MetaNamespaceKeyFunc(obj); err != nil || key != o.key {
			list = append(list, obj)
		}
	}
	if o.obj != nil {
		if values, err := o.GetIndexers()[index](o.obj); err == nil && slices.Contains(values, value) {
			list = append(list, o.obj)
		}
	}
	return list, nil
}
