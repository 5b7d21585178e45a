// Package operations tests what those who run Evictgate look at: traces, profiles, metrics, alerts and the
// dashboard, each on a real control plane.
package operations

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/otlp"
)

// env is what all tests share: a control plane that traces everything, and the program.
type env struct {
	*kube.ControlPlane
	binary string
	traces *otlp.Receiver
}

var shared *env

func TestMain(m *testing.M) { os.Exit(gate.Main(m, setUp)) }

func setUp(ctx context.Context, s *gate.Setup) error {
	traces, err := otlp.Start()
	if err != nil {
		return err
	}
	s.Cleanup(traces.Close)
	configuration := filepath.Join(s.Dir, "tracing.yaml")
	err = os.WriteFile(configuration, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: TracingConfiguration
endpoint: `+traces.GRPC+`
samplingRatePerMillion: 1000000
`), 0o644)
	if err != nil {
		return err
	}
	plane, err := s.ControlPlane(ctx, kube.Options{
		Controllers: true, Scheduler: true, Kwok: true, Nodes: 1,
		APIServerArgs: []string{"--tracing-config-file=" + configuration},
	})
	if err == nil {
		shared = &env{ControlPlane: plane, binary: s.Binary, traces: traces}
	}
	return err
}

// start gives a test a namespace with a ready pod of a Deployment, and a gate in front of it.
func start(t *testing.T, o gate.Options) (*gate.Gate, *corev1.Pod) {
	t.Helper()
	kube.Need(t)
	namespace, err := shared.Namespace(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Client.AppsV1().Deployments(namespace).Create(t.Context(), kube.Deployment(namespace, "web", 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := shared.WaitReady(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	o.Namespaces, o.Plane, o.Binary = []string{namespace}, shared.ControlPlane, shared.binary
	g, err := gate.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of evictgate:\n%s", g.Log())
		}
		if err := g.Stop(); err != nil {
			t.Errorf("stop evictgate: %v", err)
		}
	})
	return g, &pods[0]
}

func evict(ctx context.Context, pod *corev1.Pod) error {
	return shared.Client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
	})
}
