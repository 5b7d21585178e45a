package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// freeze is an EvictionPolicy that holds everything; more is further lines of its spec.
func freeze(more string) string {
	return `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: freeze}
spec:
` + more + `
  rego: |
    package eviction.everything

    delay contains "everything is frozen"
`
}

// evictWith evicts as a user, with annotations, and returns the warnings, too.
func evictWith(t *testing.T, config *rest.Config, namespace, name string, annotations map[string]string) ([]string, error) {
	t.Helper()
	warnings := &collector{}
	own := rest.CopyConfig(config)
	own.WarningHandler = warnings
	client, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	err = client.PolicyV1().Evictions(namespace).Evict(t.Context(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
	})
	return warnings.all(), err
}

func userConfig(t *testing.T, user string, groups ...string) *rest.Config {
	t.Helper()
	config, err := shared.UserConfig(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestAnOverrideIsAuthorisedAndLeavesTraces(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "freeze.yaml", freeze("")), "--override-groups", "breakglass"}})
	running(t, namespace, "web")
	because := map[string]string{policies.OverrideAnnotation: "INC-4711: the node burns"}

	warnings, err := evictWith(t, userConfig(t, "joe", "system:masters"), namespace, "web", because)
	if s := status(t, err); s.Code != http.StatusTooManyRequests || !strings.Contains(s.Message, "everything is frozen") {
		t.Errorf("somebody who may not: %d %q", s.Code, s.Message)
	}
	if want := "annotation evictgate.dev/override is ignored: user joe may not override policies"; !slices.Contains(warnings, want) {
		t.Errorf("joe is not told that it is ignored: %q", warnings)
	}

	warnings, err = evictWith(t, userConfig(t, "jane", "system:masters", "breakglass"), namespace, "web", because)
	if err != nil {
		t.Fatalf("who may override is refused: %v", err)
	}
	if want := "policies overridden (freeze) for this reason: INC-4711: the node burns"; !slices.Contains(warnings, want) {
		t.Errorf("jane is not told what she overrode: %q", warnings)
	}
	if !gone(t, namespace, "web") {
		t.Error("the pod is not evicted")
	}
	records, err := g.RecordsOf(t.Context(), namespace, "web")
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records (%v)", len(records), err)
	}
	used := records[1]
	if o := used.Result.Override; o == nil || !o.Used || o.Reason != because[policies.OverrideAnnotation] || !slices.Equal(o.Policies, []string{"freeze"}) || used.RequestedBy != "jane" {
		t.Errorf("the record says %+v of %s", o, used.RequestedBy)
	}
	if o := records[0].Result.Override; o == nil || o.Used || o.Ignored == "" {
		t.Errorf("the record of the ignored one says %+v", o)
	}
	err = kube.Wait(t.Context(), "the audit event of the override", func(context.Context) (bool, error) {
		events, err := shared.AuditEvents()
		return slices.ContainsFunc(events, func(e kube.AuditEvent) bool {
			return e.Annotations["evictions.evictgate.dev/review-uid"] == used.DecisionID && e.Annotations["evictions.evictgate.dev/override"] == because[policies.OverrideAnnotation]
		}), err
	})
	if err != nil {
		t.Error(err)
	}
	err = kube.Wait(t.Context(), "the Event of the override", func(ctx context.Context) (bool, error) {
		list, err := shared.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.Reason == "EvictionOverridden" && e.Note == "jane overrode freeze to evict this pod: INC-4711: the node burns" {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Error(err)
	}
	metrics, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, metrics, `evictgate_overrides_total{result="used"} 1`, `evictgate_overrides_total{result="ignored"} 1`)
}

func TestAHoldEndsAtItsMaximum(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "freeze.yaml", freeze("  maxHold: 3s"))}})
	running(t, namespace, "web")
	first := time.Now()
	if s := status(t, evict(t.Context(), namespace, "web", nil)); s.Code != http.StatusTooManyRequests {
		t.Fatalf("at first: %d %q", s.Code, s.Message)
	}
	var warnings []string
	err := kube.Wait(t.Context(), "the hold to end", func(context.Context) (bool, error) {
		var err error
		warnings, err = evictWith(t, shared.Config, namespace, "web", nil)
		return err == nil, err
	})
	if err != nil || time.Since(first) < 3*time.Second {
		t.Fatalf("the hold ended after %s: %v", time.Since(first), err)
	}
	if !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.HasPrefix(w, "would delay: everything is frozen (policy freeze); it has held this pod since ") && strings.HasSuffix(w, "longer than its maxHold of 3s, so it only warns now")
	}) {
		t.Errorf("it is not told that the hold is over: %q", warnings)
	}
	records, err := g.RecordsOf(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	if last := records[len(records)-1].Result; last.Outcome != policies.Admitted || last.Violations[0].Expired == nil || last.Violations[0].Expired.MaxHold != "3s" {
		t.Errorf("the last record is %+v", last)
	}
}

// Evictions at once do not slip through a limit together.
func TestALimitHoldsForEvictionsAtOnce(t *testing.T) {
	const limit = `package eviction.two_a_day

delay contains "two evictions of this workload a day" if count(input.history.owner) >= 2
`
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "limit.rego", limit)}})
	pods := deploy(t, namespace, "web", 8, "", nil)
	answers := make(chan error, len(pods))
	for _, p := range pods {
		go func() { answers <- evict(t.Context(), namespace, p.Name, nil) }()
	}
	admitted := 0
	for range pods {
		if err := <-answers; err == nil {
			admitted++
		} else if s := status(t, err); s.Code != http.StatusTooManyRequests {
			t.Errorf("%d %q", s.Code, s.Message)
		}
	}
	if admitted != 2 {
		t.Errorf("%d evictions are admitted, the limit is 2\n%s", admitted, g.Log())
	}
}

// archive is a bundle without a signature.
func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	packed := tar.NewWriter(zipped)
	for i := 0; i < len(files); i += 2 {
		err := packed.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1]))})
		if err == nil {
			_, err = packed.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if packed.Close() != nil || zipped.Close() != nil {
		t.Fatal("the archive cannot be written")
	}
	return buffer.Bytes()
}

func TestABundleThatTurnsBrokenKeepsTheLastGoodRevision(t *testing.T) {
	var serving atomic.Pointer[[]byte]
	put := func(files ...string) {
		packed := archive(t, files...)
		serving.Store(&packed)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*serving.Load()) }))
	defer server.Close()
	put("closed.rego", denyAll)
	g, namespace := start(t, gate.Options{Args: []string{"--policies", "default", "--policies", server.URL + "/evictions.tar.gz", "--bundle-poll", "1s"}})
	running(t, namespace, "web")
	answers := func(text string) { t.Helper(); awaitAnswer(t, namespace, "web", text) }
	answers("the gate is closed")
	put("freeze.yaml", freeze("  enforcement: Enforce"))
	answers("everything is frozen")
	put("freeze.yaml", freeze("  enforcement: Enforce"), "closed.rego", "package eviction.closed\n\ndeny contains input.pud.name\n")
	err := kube.Wait(t.Context(), "the broken bundle to be told", func(context.Context) (bool, error) {
		return strings.Contains(g.Log(), server.URL+"/evictions.tar.gz!/closed.rego:3:21") && strings.Contains(g.Log(), "last good revision"), nil
	})
	if err != nil {
		t.Error(err)
	}
	answers("everything is frozen")
	metrics, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, metrics, `evictgate_policy_reloads_total{result="failed"} 1`, "evictgate_policy_revision_info")
	err = kube.Wait(t.Context(), "the Event about the broken bundle", func(ctx context.Context) (bool, error) {
		list, err := shared.Client.EventsV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.Reason == "PoliciesUnusable" && e.Regarding.Kind == "ValidatingWebhookConfiguration" && strings.Contains(e.Note, server.URL) && strings.Contains(e.Note, "closed.rego:3:21") {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Error(err)
	}
	put("closed.rego", denyAll)
	answers("the gate is closed")
}

// Two evictions at once must not each count on the other's pod.
func TestTheLastReadyReplicaSurvivesEvictionsAtOnce(t *testing.T) {
	const keep = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: keep-one}
spec:
  library: last_ready_replica
`
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "keep.yaml", keep)}})
	for round := range 3 {
		on := node(t)
		pods := deploy(t, namespace, "web"+string(rune('a'+round)), 4, on, nil)
		if _, stderr, err := shared.Kubectl(t.Context(), "cordon", on); err != nil { // no replacement gets ready
			t.Fatalf("%v: %s", err, stderr)
		}
		answers := make(chan error, len(pods))
		for _, p := range pods {
			go func() { answers <- evict(t.Context(), namespace, p.Name, nil) }()
		}
		admitted := 0
		for range pods {
			if <-answers == nil {
				admitted++
			}
		}
		if admitted == 0 || admitted == len(pods) {
			t.Errorf("round %d: %d of %d evictions at once are admitted\n%s", round, admitted, len(pods), g.Log())
		}
	}
}
