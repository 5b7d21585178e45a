package evictionpolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

const (
	// settle is how long the policies must be quiet before they are handed over: kubectl apply -f DIR
	// sends one after the other.
	settle = 150 * time.Millisecond
	// patience is how long a change waits for quiet at most.
	patience = time.Second
	// askAgain is how often a missing CustomResourceDefinition is looked for.
	askAgain = 2 * time.Second
)

// errNotRead is the readiness of a Watch that was not started yet, or still reads.
var errNotRead = errors.New("EvictionPolicies are not read yet")

// Watch follows the EvictionPolicies of a cluster.
type Watch struct {
	objects  dynamic.NamespaceableResourceInterface
	informer cache.SharedIndexInformer
	take     func(context.Context, []source.Unit)
	log      *slog.Logger
	changed  chan struct{} // holds one token when something changed
	trouble  atomic.Pointer[error]
	ready    atomic.Bool
	// handedOver is told after each hand-over; it may be nil.
	handedOver func()

	// handing is held during a hand-over, so that nobody sees its verdicts with the objects before it.
	handing sync.Mutex
	handed  map[string]object // by name; nil before the first
}

// object is an EvictionPolicy as it was handed over.
type object struct {
	uid        types.UID
	generation int64
	created    time.Time
	policy     string
	unit       source.Unit
}

// byAge puts the older first: of two policies that cannot stand beside each other, the one that came later
// is left out, whatever its name.
func byAge(a, b object) int {
	return cmp.Or(a.created.Compare(b.created), strings.Compare(a.unit.Name, b.unit.Name))
}

func (o object) same(other object) bool {
	return o.uid == other.uid && o.generation == other.generation
}

// NewWatch prepares a Watch; Start runs it. take is called with all policies, the oldest first, once they
// are read and after every change of them, one call at a time; its context ends with Start's.
func NewWatch(config *rest.Config, log *slog.Logger, take func(context.Context, []source.Unit)) (*Watch, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for EvictionPolicies: %w", err)
	}
	resource := v1alpha1.GroupVersion().WithResource(v1alpha1.Resource)
	w := &Watch{
		objects:  client.Resource(resource),
		informer: dynamicinformer.NewFilteredDynamicInformer(client, resource, metav1.NamespaceAll, 0, nil, nil).Informer(),
		take:     take,
		log:      log,
		changed:  make(chan struct{}, 1),
	}
	if err := w.informer.SetTransform(trim); err != nil {
		return nil, err
	}
	return w, w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { w.troubled(err) })
}

// trim drops what nobody reads.
func trim(stored any) (any, error) {
	if o, ok := stored.(*unstructured.Unstructured); ok {
		o.SetManagedFields(nil)
	}
	return stored, nil
}

// NeedLeaderElection is false: every replica follows the policies.
func (*Watch) NeedLeaderElection() bool { return false }

// Ready is nil once the policies were handed over. Trouble after that leaves it so, since the last
// revision goes on serving.
func (w *Watch) Ready(*http.Request) error {
	if w.ready.Load() {
		return nil
	}
	if err := w.trouble.Load(); err != nil {
		return *err
	}
	return errNotRead
}

// Start follows the policies until ctx is done. A missing CustomResourceDefinition is waited for.
func (w *Watch) Start(ctx context.Context) error {
	if !w.awaitResource(ctx) {
		return nil
	}
	registration, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { w.touch() },
		UpdateFunc: func(before, after any) {
			if !sameGeneration(before, after) {
				w.touch()
			}
		},
		DeleteFunc: func(any) { w.touch() },
	})
	if err != nil {
		return fmt.Errorf("watch EvictionPolicies: %w", err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { w.informer.RunWithContext(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		w.follow(ctx)
	}
	return nil
}

// sameGeneration reports whether an update changed no more than metadata and status.
func sameGeneration(before, after any) bool {
	a, okA := before.(*unstructured.Unstructured)
	b, okB := after.(*unstructured.Unstructured)
	return okA && okB && a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration()
}

// awaitResource waits until the policies can be listed, and reports false when ctx ends before. The
// informer would wait, too, but tells each attempt and puts them off ever longer.
func (w *Watch) awaitResource(ctx context.Context) bool {
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		_, err := w.objects.List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			return true
		}
		w.troubled(err)
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// troubled tells why the policies cannot be read, each reason once.
func (w *Watch) troubled(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // the end, or a watch that begins anew
	}
	err = explain(err)
	if before := w.trouble.Swap(&err); before == nil || (*before).Error() != err.Error() {
		w.log.Warn("EvictionPolicies cannot be read", "why", err.Error())
	}
}

// explain says what to do about an error of the API server.
func explain(err error) error {
	what := v1alpha1.Resource + "." + v1alpha1.Group
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the CustomResourceDefinition %s is not installed: apply config/crd", what)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("allow get, list and watch on %s: %w", what, err)
	}
	return err
}

func (w *Watch) touch() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// follow hands the policies over, first at once and then after each change.
func (w *Watch) follow(ctx context.Context) {
	w.handOver(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		}
		if w.quiet(ctx) {
			w.handOver(ctx)
		}
	}
}

// quiet waits until nothing has changed for a while, but not for ever; false when ctx ended.
func (w *Watch) quiet(ctx context.Context) bool {
	end, still := time.NewTimer(patience), time.NewTimer(settle)
	defer end.Stop()
	defer still.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return true
		case <-still.C:
			return true
		case <-w.changed:
			still.Reset(settle)
		}
	}
}

// handOver gives all policies to take, if one changed.
func (w *Watch) handOver(ctx context.Context) {
	w.handing.Lock()
	defer w.handing.Unlock()
	objects := objectsIn(w.informer.GetStore())
	if w.handed != nil && maps.EqualFunc(objects, w.handed, object.same) {
		return
	}
	defer func() {
		if r := recover(); r != nil { // one policy must not end the server; the last revision serves on
			w.log.Error("panic while taking EvictionPolicies", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	w.take(ctx, unitsByAge(objects))
	if ctx.Err() != nil {
		return // take may have been cut short, so there are no verdicts about these
	}
	w.handed = objects
	w.trouble.Store(nil)
	w.ready.Store(true)
	if w.handedOver != nil {
		w.handedOver()
	}
}

// List reads the policies of a cluster once, as Watch would hand them over.
func List(ctx context.Context, config *rest.Config) ([]source.Unit, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for EvictionPolicies: %w", err)
	}
	list, err := client.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.Resource)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list EvictionPolicies: %w", explain(err))
	}
	objects := map[string]object{}
	for i := range list.Items {
		objects[list.Items[i].GetName()] = objectOf(&list.Items[i])
	}
	return unitsByAge(objects), nil
}

// unitsByAge lists the units of policies, the oldest first.
func unitsByAge(objects map[string]object) []source.Unit {
	units := make([]source.Unit, 0, len(objects))
	for _, o := range slices.SortedFunc(maps.Values(objects), byAge) {
		units = append(units, o.unit)
	}
	return units
}

func objectsIn(store cache.Store) map[string]object {
	objects := map[string]object{}
	for _, stored := range store.List() {
		if o, ok := stored.(*unstructured.Unstructured); ok {
			objects[o.GetName()] = objectOf(o)
		}
	}
	return objects
}

func objectOf(o *unstructured.Unstructured) object {
	return object{
		uid: o.GetUID(), generation: o.GetGeneration(), created: o.GetCreationTimestamp().Time,
		policy: policyOf(o), unit: unitOf(o),
	}
}

// cached is the policy as last seen; nil when there is none of that name.
func (w *Watch) cached(name string) *unstructured.Unstructured {
	stored, ok, err := w.informer.GetStore().GetByKey(name)
	if !ok || err != nil {
		return nil
	}
	o, _ := stored.(*unstructured.Unstructured)
	return o
}
