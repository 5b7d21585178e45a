// Package conformance holds budget.Predict to a real kube-apiserver: random pods, budgets and Evictions
// are made there, and every answer is compared, code, reason, message, causes and Retry-After.
//
// The control plane runs without controllers, so that the status of budgets stays as it is written.
// `make test-all` tries 5,000 cases, `make conformance` 100,000. A failure is shrunk, and its seed and
// draws are kept in testdata/rapid; a later run tries them first.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/budget"
)

var cases = flag.Int("cases", 5000, "how many random cases are compared")

// workers try cases in parallel, each in a namespace of its own: a case waits most of its time, since
// the API server lists budgets consistently, which takes up to 100 ms after a write.
const workers = 40

// TestMain lets all workers run at once, whatever the number of cores.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(workers)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestPredictAnswersAsTheAPIServerDoes(t *testing.T) {
	kube.Need(t)
	plane, err := kube.Start(t.Context(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Stop() })
	client, err := rest.HTTPClientFor(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := flag.Set("rapid.checks", strconv.Itoa((*cases+workers-1)/workers)); err != nil {
		t.Fatal(err)
	}
	server, err := plane.Client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	ofOlder := version.MustParseGeneric(server.GitVersion).LessThan(causesSince)
	tally := &tally{}
	stop := tally.report()
	start := time.Now()
	t.Run("workers", func(t *testing.T) {
		for i := range workers {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				namespace, err := plane.Namespace(t.Context(), "conformance")
				if err != nil {
					t.Fatal(err)
				}
				w := &worker{plane: plane, client: client, namespace: namespace, tally: tally, ofOlder: ofOlder}
				rapid.Check(t, func(t *rapid.T) { w.try(t, drawScenario(t)) })
			})
		}
	})
	stop()
	t.Logf("%d cases compared in %s: %s", tally.total.Load(), time.Since(start).Round(time.Second), tally)
	if n := tally.total.Load(); n < int64(*cases) && !t.Failed() {
		t.Errorf("only %d of %d cases were compared", n, *cases)
	}
}

// tally counts the answers by code, to show that the cases reach every row.
type tally struct {
	total atomic.Int64
	codes [600]atomic.Int64
}

func (c *tally) add(code int32) {
	c.total.Add(1)
	c.codes[code].Add(1)
}

func (c *tally) String() string {
	var parts []string
	for code := range c.codes {
		if n := c.codes[code].Load(); n > 0 {
			parts = append(parts, fmt.Sprintf("%d x%d", code, n))
		}
	}
	return strings.Join(parts, ", ")
}

// report shows progress on long runs.
func (c *tally) report() func() {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(30 * time.Second):
				fmt.Fprintf(os.Stderr, "conformance: %d of %d cases\n", c.total.Load(), *cases)
			}
		}
	}()
	return func() { close(done) }
}

type worker struct {
	plane     *kube.ControlPlane
	client    *http.Client
	namespace string
	tally     *tally
	// ofOlder says that the API server words the causes of a refusal in another way than ours.
	ofOlder bool
	count   int
}

// causesSince has the sentences of budget.Predict. 1.34 says that a budget needs so many pods and has so many whatever holds
// it, and nothing of one whose number is negative or that has too many evictions under way.
var causesSince = version.MustParseGeneric("1.37")

// try makes a scenario on the API server, posts the Eviction and compares.
func (w *worker) try(t *rapid.T, s scenario) {
	ctx := context.Background()
	w.count++
	name := fmt.Sprintf("pod-%d", w.count)
	pod, budgets := w.create(ctx, t, s, name)
	eviction := s.Post.eviction(w.namespace, name, pod)
	got := w.post(ctx, t, s.Post, eviction, name)
	want := budget.Predict(budget.Eviction{
		Namespace: w.namespace, Name: name, QueryDryRun: s.Post.QueryDryRun, Object: eviction,
	}, pod, budgets)
	w.tally.add(got.Code)
	want.Case = ""
	if w.ofOlder {
		want.Causes, got.Causes = nil, nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		scene, _ := json.Marshal(s)
		t.Fatalf("prediction differs from the API server's answer (-predicted +answered):\n%s\nscenario: %s", diff, scene)
	}
	w.clean(ctx, t, pod, len(budgets) > 0)
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("set up: %v", err)
	}
}

func (w *worker) create(ctx context.Context, t *rapid.T, s scenario, name string) (*corev1.Pod, []*policyv1.PodDisruptionBudget) {
	pods := w.plane.Client.CoreV1().Pods(w.namespace)
	var pod *corev1.Pod
	var err error
	if s.Pod != nil {
		pod, err = pods.Create(ctx, s.pod(w.namespace, name), metav1.CreateOptions{})
		must(t, err)
		pod.Status = s.podStatus()
		pod, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		must(t, err)
		if s.Pod.Terminating {
			must(t, pods.Delete(ctx, name, metav1.DeleteOptions{}))
			pod, err = pods.Get(ctx, name, metav1.GetOptions{})
			must(t, err)
		}
	}
	var budgets []*policyv1.PodDisruptionBudget
	client := w.plane.Client.PolicyV1().PodDisruptionBudgets(w.namespace)
	for i, spec := range s.Budgets {
		b, err := client.Create(ctx, spec.object(w.namespace, fmt.Sprintf("budget-%d", i), name), metav1.CreateOptions{})
		must(t, err)
		b.Status = spec.status()
		b, err = client.UpdateStatus(ctx, b, metav1.UpdateOptions{})
		must(t, err)
		budgets = append(budgets, b)
	}
	return pod, budgets
}

// post sends the Eviction without client-go, which would retry.
func (w *worker) post(ctx context.Context, t *rapid.T, p postSpec, e *policyv1.Eviction, name string) budget.Answer {
	body, err := json.Marshal(e)
	must(t, err)
	target := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s/eviction?%s", w.plane.Config.Host, w.namespace, name, url.Values{"dryRun": p.QueryDryRun}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := w.client.Do(request)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	must(t, err)
	var status metav1.Status
	must(t, json.Unmarshal(raw, &status))
	return answer(t, response, status)
}

// answer reads the answer as a client sees it; the header and the body must agree.
func answer(t *rapid.T, response *http.Response, status metav1.Status) budget.Answer {
	a := budget.Answer{Code: int32(response.StatusCode), Reason: status.Reason, Message: status.Message}
	if status.Code != a.Code && status.Code != 0 {
		t.Fatalf("HTTP status %d, but the body says %d", response.StatusCode, status.Code)
	}
	if status.Details != nil {
		a.Causes, a.RetryAfter = status.Details.Causes, status.Details.RetryAfterSeconds
	}
	header := ""
	if a.RetryAfter > 0 {
		header = strconv.Itoa(int(a.RetryAfter))
	}
	if got := response.Header.Get("Retry-After"); got != header {
		t.Fatalf("Retry-After is %q, but the body says %d s", got, a.RetryAfter)
	}
	return a
}

// clean removes what the case made; another case's selector may match everything.
func (w *worker) clean(ctx context.Context, t *rapid.T, pod *corev1.Pod, budgets bool) {
	if budgets {
		must(t, w.plane.Client.PolicyV1().PodDisruptionBudgets(w.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	if pod == nil {
		return
	}
	pods := w.plane.Client.CoreV1().Pods(w.namespace)
	if len(pod.Finalizers) > 0 {
		_, _ = pods.Patch(ctx, pod.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	}
	_ = pods.Delete(ctx, pod.Name, *metav1.NewDeleteOptions(0))
}
