package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// collector keeps the warnings that a client is shown.
type collector struct {
	mu   sync.Mutex
	list []string
}

func (c *collector) HandleWarningHeader(_ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, text)
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list
}

func evictAs(t *testing.T, config *rest.Config, namespace, name string) error {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.PolicyV1().Evictions(namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
}

func TestTheWebhookStoppedUnderFail(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	running(t, namespace, "web")
	g.Kill()
	s := status(t, evict(t.Context(), namespace, "web", nil))
	if s.Code != http.StatusInternalServerError || s.Reason != metav1.StatusReasonInternalError ||
		!strings.HasPrefix(s.Message, `Internal error occurred: failed calling webhook "evictions.evictgate.dev": failed to call webhook: Post "https://localhost:`) ||
		!strings.Contains(s.Message, "connection refused") || s.Details.RetryAfterSeconds != 0 {
		t.Errorf("unexpected status %+v", s)
	}
	if gone(t, namespace, "web") {
		t.Error("the pod was deleted")
	}
}

func TestTheWebhookStoppedUnderIgnore(t *testing.T) {
	g, namespace := start(t, gate.Options{FailurePolicy: admissionregistrationv1.Ignore, Args: closed(t)})
	running(t, namespace, "web")
	g.Kill()
	if err := evict(t.Context(), namespace, "web", nil); err != nil {
		t.Fatalf("the eviction did not pass: %v", err)
	}
	err := kube.Wait(t.Context(), "the audit event that says the call failed open", func(context.Context) (bool, error) {
		events, err := shared.AuditEvents()
		for _, e := range events {
			if e.ObjectRef.Namespace == namespace && e.Annotations["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"] == "evictions.evictgate.dev" {
				return e.ResponseStatus.Code == http.StatusCreated, nil
			}
		}
		return false, err
	})
	if err != nil {
		t.Error(err)
	}
}

const (
	failsAtRunTime = `package eviction.fails

deny contains {"reason": "never reached", "detail": {}} if {
	time.parse_duration_ns(input.pod.metadata.labels.app) > 0
}
`
	neverEnds = `package eviction.endless

delay contains {"reason": "never reached", "detail": {}} if {
	some x in numbers.range(1, 10000)
	some y in numbers.range(1, 10000)
	x * y == -1
}
`
)

func TestAPolicyThatFailsLeavesTheEvictionUndecidedAndIsNamed(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policy-steps", "200000", "--policies", policyDir(t, "fails.rego", failsAtRunTime, "endless.rego", neverEnds)}})
	running(t, namespace, "web")
	var warnings collector
	config := *shared.Config
	config.WarningHandler = &warnings
	s := status(t, evictAs(t, &config, namespace, "web"))
	if s.Code != http.StatusTooManyRequests || !strings.Contains(s.Message, "policies endless, fails could not be evaluated") {
		t.Errorf("unexpected status %d %q", s.Code, s.Message)
	}
	shown := strings.Join(warnings.all(), "\n")
	contains(t, shown, "fails.rego:4:2: ", "endless.rego:", "stopped after 200000 steps")
	contains(t, g.Log(), "policy could not be evaluated", "fails.rego:4:2: ")
}

func TestAPolicyThatFailsDoesNotTakeTheOthersDown(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "fails.rego", failsAtRunTime, "closed.rego", denyAll)}})
	running(t, namespace, "web")
	if s := status(t, evict(t.Context(), namespace, "web", nil)); s.Code != http.StatusForbidden || !strings.Contains(s.Message, "the gate is closed") {
		t.Errorf("unexpected status %d %q", s.Code, s.Message)
	}
}

func TestAHotReloadKeepsTheLastGoodRevision(t *testing.T) {
	dir := policyDir(t, "closed.rego", denyAll)
	g, namespace := start(t, gate.Options{Args: []string{"--policies", dir}})
	running(t, namespace, "web")
	answers := func(text string) { t.Helper(); awaitAnswer(t, namespace, "web", text) }
	answers("the gate is closed")
	file := filepath.Join(dir, "closed.rego")
	write(t, file, strings.Replace(denyAll, "the gate is closed", "the gate is shut", 1))
	answers("the gate is shut")
	write(t, file, "package eviction.closed\n\ndeny contains {\"reason\": input.pud.name, \"detail\": {}}\n")
	err := kube.Wait(t.Context(), "the broken policy to be told", func(context.Context) (bool, error) {
		return strings.Contains(g.Log(), "closed.rego:3:") && strings.Contains(g.Log(), "last good revision"), nil
	})
	if err != nil {
		t.Error(err)
	}
	answers("the gate is shut")
	if metrics, err := g.MetricsText(t.Context()); err != nil || !strings.Contains(metrics, `evictgate_policy_reloads_total{result="failed"} 1`) {
		t.Errorf("the failed reload is not counted: %v", err)
	}
	write(t, file, denyAll)
	answers("the gate is closed")
}

func TestSIGTERMAnswersWhatIsInFlightAndFlushesTheRecords(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: append(closed(t), "--shutdown-delay", "8s")})
	running(t, namespace, "web")
	const clients = 8
	var wrong, answered sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := evict(context.WithoutCancel(ctx), namespace, "web", nil)
				if err == nil || !strings.Contains(err.Error(), "the gate is closed") {
					wrong.Store([2]int{client, n}, err)
					return
				}
				answered.Store([2]int{client, n}, nil)
			}
		})
	}
	time.Sleep(time.Second)
	exited := make(chan error, 1)
	go func() { exited <- g.Terminate() }()
	// While it shuts down it goes on answering, and is not ready.
	time.Sleep(200 * time.Millisecond)
	cancel()
	running.Wait()
	if err := <-exited; err != nil {
		t.Errorf("evictgate ended with %v", err)
	}
	wrong.Range(func(k, v any) bool { t.Errorf("client call %v got %v", k, v); return true })
	calls := 0
	answered.Range(func(any, any) bool { calls++; return true })
	records, err := g.Records()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != calls || calls == 0 {
		t.Errorf("%d records of %d answered evictions", len(records), calls)
	}
}

// trust sets the caBundle of a webhook configuration.
func trust(t *testing.T, configuration string, bundle []byte) {
	t.Helper()
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Patch(t.Context(), configuration, types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCertificatesFromFiles(t *testing.T) {
	namespace := space(t)
	dir := t.TempDir()
	ca := writeCertificate(t, dir)
	g := open(t, gate.Options{Name: namespace, Namespaces: []string{namespace}, CABundle: ca, Args: append(closed(t), "--certs", "files", "--cert-dir", dir)})
	running(t, namespace, "web")
	if s := status(t, evict(t.Context(), namespace, "web", nil)); s.Code != http.StatusForbidden {
		t.Errorf("unexpected status %d %q", s.Code, s.Message)
	}
	serial := func() string {
		conn, err := tls.Dial("tcp", g.Listen, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	trust(t, namespace, append(ca, writeCertificate(t, dir)...))
	err := kube.Wait(t.Context(), "the new certificate to be served", func(context.Context) (bool, error) { return serial() != before, nil })
	if err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitReady(t.Context()); err != nil {
		t.Errorf("a missing key takes a good certificate out of service: %v", err)
	}
}
