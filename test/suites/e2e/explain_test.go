package e2e

import (
	"net/http"
	"os"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/webhook"
)

// The API server asks the webhook before it looks for the pod, so that the warning proves of any eviction
// that it passes here, without evicting anything.
func TestAnExplanationProvesThatAnEvictionPassesThroughTheGate(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "held.rego", `package eviction.held

deny contains {"reason": "not this one", "detail": {}} if input.pod.metadata.labels.app == "held"
`, "fails.rego", `package eviction.fails

deny contains {"reason": "never reached", "detail": {}} if {
	input.pod.metadata.labels.app == "broken"
	time.parse_duration_ns(input.pod.metadata.labels.app) > 0
}
`)}})
	for _, name := range []string{"held", "free", "broken"} {
		running(t, namespace, name)
	}
	var heard collector
	client, err := kubernetes.NewForConfig(heardBy(shared.Config, &heard))
	if err != nil {
		t.Fatal(err)
	}
	dryRun := &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	for name, c := range map[string]struct {
		pod     string
		options *metav1.DeleteOptions
		code    int32
		outcome string
	}{
		"refused":                      {"held", nil, http.StatusForbidden, "denied"},
		"refused in a dry run":         {"held", dryRun, http.StatusForbidden, "denied"},
		"undecided":                    {"broken", nil, http.StatusTooManyRequests, "undecided"},
		"a pod that does not exist":    {"nobody", nil, http.StatusNotFound, "admitted"},
		"no pod and a dry run":         {"nobody", dryRun, http.StatusNotFound, "admitted"},
		"admitted, without any effect": {"free", dryRun, http.StatusCreated, "admitted"},
	} {
		t.Run(name, func(t *testing.T) {
			heard.list = nil
			began := time.Now()
			err := client.PolicyV1().Evictions(namespace).Evict(t.Context(), &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: c.pod, Annotations: map[string]string{webhook.ExplainAnnotation: "true"}},
				DeleteOptions: c.options,
			})
			if c.code == http.StatusCreated && err != nil {
				t.Fatal(err)
			}
			if c.code != http.StatusCreated {
				if s := status(t, err); s.Code != c.code {
					t.Errorf("answered %d: %s", s.Code, s.Message)
				}
			}
			e, found := webhook.ReadExplanation(heard.all())
			hostname, _ := os.Hostname()
			if !found || string(e.Outcome) != c.outcome || e.Replica != hostname || e.Revision == "" {
				t.Errorf("explanation is %+v in %q", e, heard.all())
			}
			if e.Now.Before(began.Add(-time.Second)) || e.Now.After(time.Now()) {
				t.Errorf("decided at %s, asked at %s", e.Now, began)
			}
			if records, err := g.RecordsOf(t.Context(), namespace, c.pod); err != nil || records[0].Revision != e.Revision {
				t.Errorf("record %+v, %v", records, err)
			}
		})
	}
	if gone(t, namespace, "free") {
		t.Error("a dry run deleted the pod")
	}
}

// heardBy is the configuration of a client whose warnings are collected.
func heardBy(config *rest.Config, to *collector) *rest.Config {
	config = rest.CopyConfig(config)
	config.WarningHandler = to
	return config
}
