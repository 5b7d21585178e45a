// Package operations tests what those who run Evictgate look at: traces, profiles, metrics, alerts and the
// dashboard, each on a real control plane.
package operations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/gate"
	"github.com/evictgate/evictgate/test/kube"
	"github.com/evictgate/evictgate/test/otlp"
)

// env is what all tests share: a control plane that traces everything, and the program.
type env struct {
	*kube.ControlPlane
	binary string
	traces *otlp.Receiver
}

var shared *env

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	if missing := kube.Missing(); len(missing) > 0 {
		return m.Run() // every test says so by name; see start
	}
	dir, err := os.MkdirTemp("", "evictgate-operations-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared = &env{}
	if shared.binary, err = gate.Build(dir); err != nil {
		return fail(err)
	}
	if shared.traces, err = otlp.Start(); err != nil {
		return fail(err)
	}
	defer shared.traces.Close()
	if err := shared.start(dir); err != nil {
		return fail(err)
	}
	defer func() { _ = shared.Stop() }()
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (e *env) start(dir string) error {
	configuration := filepath.Join(dir, "tracing.yaml")
	err := os.WriteFile(configuration, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: TracingConfiguration
endpoint: `+e.traces.GRPC+`
samplingRatePerMillion: 1000000
`), 0o644)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	e.ControlPlane, err = kube.Start(ctx, kube.Options{
		Controllers: true, Scheduler: true, Kwok: true, Nodes: 1,
		APIServerArgs: []string{"--tracing-config-file=" + configuration},
	})
	if err != nil {
		return err
	}
	quiet := *e.Config
	quiet.WarningHandler = rest.NoWarnings{}
	e.Client, err = kubernetes.NewForConfig(&quiet)
	return errors.Join(err)
}

// start gives a test a namespace with a ready pod of a Deployment, and a gate in front of it.
func start(t *testing.T, o gate.Options) (*gate.Gate, *corev1.Pod) {
	t.Helper()
	if shared == nil {
		t.Skipf("not built: %s; run make controlplane", strings.Join(kube.Missing(), ", "))
	}
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
