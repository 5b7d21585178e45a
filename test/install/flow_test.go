//go:build linux

package install

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/webhook"
)

const (
	clients = 4
	// pause is that of each client between two evictions.
	pause = 50 * time.Millisecond
)

// answer is what one eviction got.
type answer struct {
	at      time.Time
	decided *webhook.Explanation // nil: nobody says that he decided
	err     error
}

// failed says that the API server could not ask the webhook, or refused for another reason of its own that
// says nothing of the pod.
func (a answer) failed() bool {
	return a.decided == nil && a.err != nil && !strings.Contains(a.err.Error(), "disruption budget") && !strings.Contains(a.err.Error(), "not found")
}

// client evicts and hears the warnings of the answer.
type client struct {
	*kubernetes.Clientset
	heard []string
}

// HandleWarningHeaderWithContext makes a client the handler of its own warnings.
func (c *client) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	c.heard = append(c.heard, text)
}

func newClient(t *testing.T, config *rest.Config) *client {
	t.Helper()
	c := &client{}
	own := rest.CopyConfig(config)
	own.WarningHandlerWithContext = c
	own.Timeout = 20 * time.Second
	var err error
	c.Clientset, err = kubernetes.NewForConfig(own)
	check(t, err)
	return c
}

// evict sends one eviction and asks who decided it. It is not safe for concurrent use.
func (c *client) evict(ctx context.Context, namespace, pod string, dryRun bool) answer {
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: pod, Annotations: map[string]string{webhook.ExplainAnnotation: "true"},
	}}
	if dryRun {
		eviction.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	}
	c.heard = nil
	a := answer{at: time.Now(), err: c.PolicyV1().Evictions(namespace).Evict(ctx, eviction)}
	if e, found := webhook.ReadExplanation(c.heard); found {
		a.decided = &e
	}
	return a
}

// flow is evictions from several clients, all the time: half of them really evict pods of the Deployment web,
// the others ask for the pod that a policy holds.
type flow struct {
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	answers []answer
}

func (s *site) flow(t *testing.T) *flow {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &flow{cancel: cancel}
	t.Cleanup(func() { f.stop() })
	for i := range clients {
		c := newClient(t, s.plane.Config)
		f.wg.Go(func() {
			for ctx.Err() == nil {
				if i%2 == 0 {
					f.note(c.evictOne(t.Context()))
				} else {
					f.note(c.evict(t.Context(), "default", "held", true))
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	return f
}

// evictOne evicts a pod of web, any.
func (c *client) evictOne(ctx context.Context) answer {
	pods, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return answer{at: time.Now(), err: err}
	}
	live := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(live) == 0 {
		return c.evict(ctx, "default", "web-none", true)
	}
	return c.evict(ctx, "default", live[rand.IntN(len(live))].Name, false)
}

func (f *flow) note(a answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = append(f.answers, a)
}

// stop ends the flow, when each client has its last answer, and returns all.
func (f *flow) stop() []answer {
	f.cancel()
	f.wg.Wait()
	return f.answers
}

// figures counts answers.
type figures struct {
	all, failed, undecided int
	outcomes               map[string]int
	replicas               map[string]int
	firstFailure           error
}

func count(answers []answer) figures {
	n := figures{all: len(answers), outcomes: map[string]int{}, replicas: map[string]int{}}
	for _, a := range answers {
		switch {
		case a.decided != nil:
			n.outcomes[string(a.decided.Outcome)]++
			n.replicas[a.decided.Replica]++
		case a.failed():
			n.failed++
			if n.firstFailure == nil {
				n.firstFailure = a.err
			}
		default:
			n.undecided++
		}
	}
	return n
}

func (n figures) String() string {
	text := fmt.Sprintf("%d evictions", n.all)
	for _, outcome := range slices.Sorted(maps.Keys(n.outcomes)) {
		text += fmt.Sprintf(", %d %s", n.outcomes[outcome], outcome)
	}
	return text + fmt.Sprintf(", %d past the gate, %d failed; decided by %d replicas", n.undecided, n.failed, len(n.replicas))
}

// allDecided ends the flow and holds it to its purpose: every eviction got a decision.
func (f *flow) allDecided(t *testing.T) figures {
	t.Helper()
	n := count(f.stop())
	t.Log(n)
	if n.all < 20 || len(n.outcomes) < 2 || n.failed+n.undecided > 0 {
		t.Errorf("%s; the first failure: %v", n, n.firstFailure)
	}
	return n
}
