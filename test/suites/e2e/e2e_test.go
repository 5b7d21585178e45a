// Package e2e sends real evictions through the real program on a real API server.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// env is what all tests share: one control plane and the program.
type env struct {
	*kube.ControlPlane
	binary string
	names  atomic.Int32
}

var shared *env

func TestMain(m *testing.M) { os.Exit(gate.Main(m, setUp)) }

func setUp(ctx context.Context, s *gate.Setup) error {
	plane, err := s.ControlPlane(ctx, kube.Options{Controllers: true, Scheduler: true, Kwok: true, Nodes: 2})
	if err == nil {
		shared = &env{ControlPlane: plane, binary: s.Binary}
	}
	return err
}

// start gives a test a namespace and a gate of its own in front of it.
func start(t *testing.T, o gate.Options) (*gate.Gate, string) {
	t.Helper()
	namespace := space(t)
	o.Namespaces = []string{namespace}
	return open(t, o), namespace
}

// space gives a test a namespace of its own.
func space(t *testing.T) string {
	t.Helper()
	kube.Need(t)
	t.Parallel()
	namespace, err := shared.Namespace(t.Context(), "e2e")
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}

func open(t *testing.T, o gate.Options) *gate.Gate {
	t.Helper()
	o.Plane, o.Binary = shared.ControlPlane, shared.binary
	if o.Name == "" {
		o.Name = fmt.Sprintf("evictgate-%d", shared.names.Add(1))
	}
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
	return g
}

// policyDir writes policies into a directory: pairs of file name and content.
func policyDir(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	return dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// node makes a node that only this test's pods go to.
func node(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("own-%d", shared.names.Add(1))
	if err := shared.CreateNodes(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

// deploy creates a Deployment and returns its ready pods. With a node, its pods go there only; without one, not
// to the nodes of other tests, which drain them.
func deploy(t *testing.T, namespace, name string, replicas int32, nodeName string, annotations map[string]string) []corev1.Pod {
	t.Helper()
	d := kube.Deployment(namespace, name, replicas)
	d.Spec.Template.Annotations = annotations
	d.Spec.Template.Spec.Affinity = onNodes("node-1", "node-2")
	if nodeName != "" {
		d.Spec.Template.Spec.Affinity = onNodes(nodeName)
	}
	if _, err := shared.Client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := shared.WaitReady(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

func onNodes(names ...string) *corev1.Affinity {
	term := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: names}}}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
	}}
}

func createBudget(t *testing.T, pdb *policyv1.PodDisruptionBudget) {
	t.Helper()
	if _, err := shared.Client.PolicyV1().PodDisruptionBudgets(pdb.Namespace).Create(t.Context(), pdb, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func evict(ctx context.Context, namespace, name string, o *metav1.DeleteOptions) error {
	return shared.Client.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, DeleteOptions: o,
	})
}

// awaitAnswer waits until a dry run of the eviction is refused with the text.
func awaitAnswer(t *testing.T, namespace, pod, text string) {
	t.Helper()
	err := kube.Wait(t.Context(), "the answer to say "+text, func(ctx context.Context) (bool, error) {
		err := evict(ctx, namespace, pod, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), text), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// status is the API server's answer as a Status.
func status(t *testing.T, err error) metav1.Status {
	t.Helper()
	var s apierrors.APIStatus
	if !errors.As(err, &s) {
		t.Fatalf("expected an answer with a status, got %v", err)
	}
	return s.Status()
}

// drain runs a real kubectl drain in the background.
type drain struct {
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	stderr bytes.Buffer
}

func (d *drain) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stderr.Write(p)
}

func (d *drain) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stderr.String()
}

func startDrain(t *testing.T, nodeName string, args ...string) *drain {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &drain{cancel: cancel, done: make(chan error, 1)}
	args = append([]string{"drain", nodeName, "--ignore-daemonsets", "--force"}, args...)
	go func() { d.done <- shared.KubectlTo(ctx, nil, d, d, args...) }()
	t.Cleanup(cancel)
	return d
}

// wait returns how the drain ended.
func (d *drain) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("kubectl drain did not end; it printed:\n%s", d.text())
		return nil
	}
}

// sees waits until the drain has printed the text n times.
func (d *drain) sees(t *testing.T, text string, n int) {
	t.Helper()
	err := kube.Wait(t.Context(), fmt.Sprintf("kubectl drain to print %q %d times", text, n), func(context.Context) (bool, error) {
		return strings.Count(d.text(), text) >= n, nil
	})
	if err != nil {
		t.Fatalf("%v; it printed:\n%s", err, d.text())
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// previewOf runs evictgate preview against the control plane and expects a refusal.
func previewOf(t *testing.T, out *strings.Builder, target string, args ...string) {
	t.Helper()
	command := exec.Command(shared.binary, append([]string{"preview", "--kubeconfig", shared.Kubeconfig, target}, args...)...)
	command.Stdout, command.Stderr = out, out
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("evictgate preview %s: %v\n%s", target, err, out)
	}
}
