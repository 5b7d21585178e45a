// Package manifests holds config/ to a real API server, to the real kustomize and helm, and to the real program
// under the rights that config/ gives it.
package manifests

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

const (
	namespace = "evictgate"
	selector  = "app.kubernetes.io/name=evictgate,app.kubernetes.io/component=webhook"
)

// start runs a control plane of the test's own: the manifests have names of their own, so that two tests would meet.
func start(t *testing.T, o kube.Options) *kube.ControlPlane {
	t.Helper()
	kube.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	plane, err := kube.Start(ctx, o)
	check(t, err)
	t.Cleanup(func() { check(t, plane.Stop()) })
	return plane
}

// everything is a control plane whose Deployments get pods, which are placed and become ready.
func everything(nodes int) kube.Options {
	return kube.Options{Controllers: true, Scheduler: true, Kwok: true, Nodes: nodes}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is a directory below config/.
func config(dir string) string { return filepath.Join("..", "..", "..", "config", dir) }

// kubectl runs kubectl and fails the test when it fails, or warns.
func kubectl(t *testing.T, plane *kube.ControlPlane, args ...string) string {
	t.Helper()
	stdout, stderr, err := plane.Kubectl(t.Context(), args...)
	if err != nil || strings.Contains(stderr, "Warning") {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// ready waits until the Deployment has n ready pods, and returns them.
func ready(t *testing.T, plane *kube.ControlPlane, n int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	err := kube.Wait(t.Context(), "the replicas to be ready", func(ctx context.Context) (bool, error) {
		list, err := plane.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return false, err
		}
		pods = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || !podReady(&p) })
		return len(pods) == n, nil
	})
	if err != nil {
		events, _, _ := plane.Kubectl(context.Background(), "get", "events", "--namespace", namespace)
		t.Fatalf("%v\n%s", err, events)
	}
	return pods
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// nodesOf counts the pods by node.
func nodesOf(pods []corev1.Pod) map[string]int {
	nodes := map[string]int{}
	for _, p := range pods {
		nodes[p.Spec.NodeName]++
	}
	return nodes
}

// run runs a program, with what it prints to stderr in the error.
func run(ctx context.Context, stdin io.Reader, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), &commandError{command: filepath.Base(name) + " " + strings.Join(args, " "), stderr: errOut.String(), err: err}
	}
	return out.String(), nil
}

type commandError struct {
	command, stderr string
	err             error
}

func (e *commandError) Error() string { return e.command + ": " + e.err.Error() + "\n" + e.stderr }
func (e *commandError) Unwrap() error { return e.err }

func namespaceNamed(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// overlay writes a kustomization of a user's own; CONFIG stands for config/.
func overlay(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(config(""))
	check(t, err)
	relative, err := filepath.Rel(dir, root) // kustomize takes no absolute paths
	check(t, err)
	header := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
	check(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(header+strings.ReplaceAll(text, "CONFIG", relative)+"\n"), 0o600))
	return dir
}
