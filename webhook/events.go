package webhook

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
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
	// forgotten is when an episode without a further attempt is over.
	forgotten = 10 * time.Minute
	// maxEpisodes bounds the pods that are remembered; beyond it, workloads are not told.
	maxEpisodes = 10_000
	// eventsPerSecond and eventBurst bound what is sent, over all pods.
	eventsPerSecond, eventBurst = 10, 50
)

// Events tells refusals as Kubernetes Events on the pod, and on its workload when they last: Karpenter,
// the VPA updater and cluster-autoscaler drop the text of a refusal. Repetitions become one Event with
// a count (events.k8s.io series).
type Events struct {
	broadcaster events.EventBroadcaster
	recorder    events.EventRecorder
	queue       chan refusal
	limit       *rate.Limiter
	episodes    map[types.UID]*episode
	dropped     func()
}

// refusal is what an Event says.
type refusal struct {
	pod, owner *corev1.ObjectReference
	outcome    policies.Outcome
	message    string
	at         time.Time
}

// episode is the memory of one pod's refusals.
type episode struct {
	first, last time.Time
}

// NewEvents prepares the Events; Start sends them. dropped is called for each that is left out because
// too many are waiting.
func NewEvents(client kubernetes.Interface, dropped func()) *Events {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	return &Events{
		broadcaster: broadcaster,
		recorder:    broadcaster.NewRecorder(scheme.Scheme, "evictgate"),
		queue:       make(chan refusal, 256),
		limit:       rate.NewLimiter(eventsPerSecond, eventBurst),
		episodes:    map[types.UID]*episode{},
		dropped:     dropped,
	}
}

// NeedLeaderElection is false: every replica tells what it decided.
func (*Events) NeedLeaderElection() bool { return false }

// Refused queues the Event of a decision; it never blocks. Admitted evictions and dry runs have none.
func (e *Events) Refused(in *policies.Input, d *policies.Decision) {
	if e == nil || d.Allowed() || in.Pod == nil || in.Request.DryRun {
		return
	}
	r := refusal{
		pod: &corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: in.Pod.Namespace, Name: in.Pod.Name, UID: in.Pod.UID,
		},
		owner: ownerReference(in), outcome: d.Outcome, message: d.Message, at: in.Now.Time,
	}
	select {
	case e.queue <- r:
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
		case r := <-e.queue:
			e.tell(ctx, r)
		}
	}
}

func (e *Events) tell(ctx context.Context, r refusal) {
	e.send(ctx, r.pod, r.outcome, r.message)
	since, lasts := e.note(r)
	if lasts && r.owner != nil {
		e.send(ctx, r.owner, r.outcome, fmt.Sprintf("the eviction of pod %s is refused since %s: %s", r.pod.Name, since.UTC().Format(time.RFC3339), r.message))
	}
}

// note remembers the refusal, and reports since when the pod's evictions are refused and whether that
// lasts.
func (e *Events) note(r refusal) (since time.Time, lasts bool) {
	known, ok := e.episodes[r.pod.UID]
	if !ok || r.at.Sub(known.last) > forgotten {
		e.forget(r.at)
		if len(e.episodes) >= maxEpisodes {
			return r.at, false
		}
		known = &episode{first: r.at}
		e.episodes[r.pod.UID] = known
	}
	known.last = r.at
	return known.first, r.at.Sub(known.first) >= lasting
}

// forget drops old episodes once there are many.
func (e *Events) forget(now time.Time) {
	if len(e.episodes) < maxEpisodes {
		return
	}
	for uid, known := range e.episodes {
		if now.Sub(known.last) > forgotten {
			delete(e.episodes, uid)
		}
	}
}

func (e *Events) send(ctx context.Context, regarding *corev1.ObjectReference, outcome policies.Outcome, message string) {
	if e.limit.Wait(ctx) != nil {
		return
	}
	reasons := map[policies.Outcome]string{
		policies.Delayed: "EvictionDelayed", policies.Denied: "EvictionDenied", policies.Undecided: "EvictionUndecided",
	}
	e.recorder.Eventf(regarding, nil, corev1.EventTypeWarning, reasons[outcome], "Evict", "%s", cut(message, maxNote))
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
