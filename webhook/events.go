package webhook

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"github.com/evictgate/evictgate/policies"
)

const (
	// maxNote is the API server's bound on an Event's note, in bytes.
	maxNote = 1024
	// lasting is how long the eviction of a pod must be refused until its workload is told, too.
	lasting = time.Minute
	// eventsPerSecond and eventBurst bound what is sent, over all pods.
	eventsPerSecond, eventBurst = 10, 50
)

// Events tells refusals as Kubernetes Events on the pod, and on its workload when they last: Karpenter,
// the VPA updater and cluster-autoscaler drop the text of a refusal. It tells of overridden policies,
// and of policies that cannot be used, too. Repetitions become one Event with a count (events.k8s.io
// series).
type Events struct {
	broadcaster events.EventBroadcaster
	recorder    events.EventRecorder
	queue       chan notice
	limit       *rate.Limiter
	dropped     func()
}

// notice is what an Event says.
type notice struct {
	regarding *corev1.ObjectReference
	reason    string
	message   string
	// refusal is set when a pod's eviction was refused.
	refusal *refusal
}

// refusal is of interest to the workload, too, when it lasts.
type refusal struct {
	owner     *corev1.ObjectReference
	since, at time.Time
}

// NewEvents prepares the Events; Start sends them. dropped is called for each that is left out because
// too many are waiting.
func NewEvents(client kubernetes.Interface, dropped func()) *Events {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	return &Events{
		broadcaster: broadcaster,
		recorder:    broadcaster.NewRecorder(scheme.Scheme, "evictgate"),
		queue:       make(chan notice, 256),
		limit:       rate.NewLimiter(eventsPerSecond, eventBurst),
		dropped:     dropped,
	}
}

// NeedLeaderElection is false: every replica tells what it decided.
func (*Events) NeedLeaderElection() bool { return false }

// refusalReasons are the reasons of the Events of refused evictions.
var refusalReasons = map[policies.Outcome]string{
	policies.Delayed: "EvictionDelayed", policies.Denied: "EvictionDenied", policies.Undecided: "EvictionUndecided",
}

// Tell queues the Events of a decision; since is when the pod's evictions were refused first. It never
// blocks. Evictions that are admitted as they should, and dry runs, have none.
func (e *Events) Tell(in *policies.Input, d *policies.Decision, since time.Time) {
	if e == nil || in.Pod == nil || in.Request.DryRun {
		return
	}
	pod := &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: in.Pod.Namespace, Name: in.Pod.Name, UID: in.Pod.UID,
	}
	if o := d.Override; o != nil && o.Used {
		e.put(notice{regarding: pod, reason: "EvictionOverridden", message: fmt.Sprintf(
			"%s overrode %s to evict this pod: %s", plain(in.Request.User.Username), strings.Join(o.Policies, ", "), plain(o.Reason))})
	}
	if !d.Allowed() {
		e.put(notice{regarding: pod, reason: refusalReasons[d.Outcome], message: d.Message,
			refusal: &refusal{owner: ownerReference(in), since: since, at: in.Now.Time}})
	}
}

// EventRules are what Events must be allowed for those of refusals; a repeated one is patched.
func EventRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{Verbs: []string{"create", "patch"}, APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}}}
}

// PoliciesUnusable queues an Event on what holds policies that cannot be used; it never blocks.
func (e *Events) PoliciesUnusable(regarding *corev1.ObjectReference, message string) {
	if e != nil {
		e.put(notice{regarding: regarding, reason: "PoliciesUnusable", message: message})
	}
}

func (e *Events) put(n notice) {
	select {
	case e.queue <- n:
	default:
		e.dropped()
	}
}

// ownerReference names the pod's workload; nil for kinds whose API version is not known.
func ownerReference(in *policies.Input) *corev1.ObjectReference {
	if in.Owner == nil {
		return nil
	}
	versions := map[string]string{
		"Deployment": "apps/v1", "StatefulSet": "apps/v1", "ReplicaSet": "apps/v1", "DaemonSet": "apps/v1",
		"Job": "batch/v1", "CronJob": "batch/v1", "ReplicationController": "v1",
	}
	version, ok := versions[in.Owner.Kind]
	if !ok {
		return nil
	}
	return &corev1.ObjectReference{
		APIVersion: version, Kind: in.Owner.Kind, Namespace: in.Pod.Namespace, Name: in.Owner.Name, UID: types.UID(in.Owner.UID),
	}
}

// Start sends Events until ctx is done.
func (e *Events) Start(ctx context.Context) error {
	if err := e.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("record events: %w", err)
	}
	defer e.broadcaster.Shutdown()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-e.queue:
			e.tell(ctx, n)
		}
	}
}

func (e *Events) tell(ctx context.Context, n notice) {
	e.send(ctx, n.regarding, n.reason, n.message)
	if r := n.refusal; r != nil && r.owner != nil && r.at.Sub(r.since) >= lasting {
		e.send(ctx, r.owner, n.reason, fmt.Sprintf("the eviction of pod %s is refused since %s: %s", n.regarding.Name, r.since.UTC().Format(time.RFC3339), n.message))
	}
}

func (e *Events) send(ctx context.Context, regarding *corev1.ObjectReference, reason, message string) {
	if e.limit.Wait(ctx) == nil {
		e.recorder.Eventf(regarding, nil, corev1.EventTypeWarning, reason, "Evict", "%s", cut(message, maxNote))
	}
}

// cut shortens text to at most n bytes, at a rune's end.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const more = "…"
	end := n - len(more)
	for end > 0 && text[end]&0xC0 == 0x80 {
		end--
	}
	return text[:end] + more
}
