//go:build linux

package install

import (
	"cmp"
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

	"github.com/evictgate/evictgate/test/harness/kube"
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
	dryRun  bool
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
	a := answer{at: time.Now(), dryRun: dryRun, err: c.PolicyV1().Evictions(namespace).Evict(ctx, eviction)}
	if e, found := webhook.ReadExplanation(c.heard); found {
		a.decided = &e
	}
	return a
}

// flow is evictions from several clients, all the time: half of them really evict pods of the Deployment web,
// the others ask for the pod that a policy holds.
type flow struct {
	began   time.Time
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	answers []answer
	took    time.Duration
}

func (s *site) flow(t *testing.T) *flow {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &flow{began: time.Now(), cancel: cancel}
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
	f.took = cmp.Or(f.took, time.Since(f.began))
	return f.answers
}

// figures counts answers.
type figures struct {
	all, failed, undecided int
	evicted                int // pods that really went
	outcomes               map[string]int
	replicas               map[string]int
	firstFailure           error
}

func count(answers []answer) figures {
	n := figures{all: len(answers), outcomes: map[string]int{}, replicas: map[string]int{}}
	for _, a := range answers {
		if a.err == nil && !a.dryRun {
			n.evicted++
		}
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
	if !f.enough(n) || len(n.outcomes) < 2 || n.failed+n.undecided > 0 {
		t.Errorf("%s in %s; the first failure: %v", n, f.took.Round(time.Second), n.firstFailure)
	}
	return n
}

// allDecidedUntil ends the flow and holds it to the purpose of a removal that began then: every eviction before it
// got a decision, none failed after it, and some went past the gate.
func (f *flow) allDecidedUntil(t *testing.T, began time.Time) {
	t.Helper()
	answers := f.stop()
	n := count(answers)
	t.Log(n)
	if !f.enough(n) || n.failed > 0 || n.undecided == 0 {
		t.Errorf("%s in %s; the first failure: %v", n, f.took.Round(time.Second), n.firstFailure)
	}
	for _, a := range answers {
		if a.at.Before(began) && a.decided == nil {
			t.Errorf("an eviction before the removal was not decided: %v", a.err)
		}
	}
}

// enough wants a tenth of the evictions that there would be if none took any time, and pods that really went.
func (f *flow) enough(n figures) bool {
	return n.all >= int(clients*f.took/pause/10) && n.evicted > 0
}

// crowd is how many evict at once: more than the 25 connections that the API server keeps.
const crowd = 30

// allHeard waits until each of the replicas has decided an eviction. The API server may keep its connections to
// others: many evictions at once make it open more.
func (s *site) allHeard(t *testing.T, f *flow) []corev1.Pod {
	t.Helper()
	replicas := s.replicas(t)
	var clients []*client
	for range crowd {
		clients = append(clients, newClient(t, s.plane.Config))
	}
	check(t, kube.Wait(t.Context(), "each replica to decide", func(context.Context) (bool, error) {
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() { f.note(c.evict(t.Context(), "default", "held", true)) })
		}
		all.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		heard := count(f.answers).replicas
		return !slices.ContainsFunc(replicas, func(p corev1.Pod) bool { return heard[p.Name] == 0 }), fmt.Errorf("heard: %v", heard)
	}))
	return replicas
}
