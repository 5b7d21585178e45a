// Command demo is `make demo`: a real control plane, a Deployment with a budget, a policy that delays,
// and a real kubectl drain that is told why, retries and finishes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// freeze is the policy of the demo: nothing in the namespace shop may be evicted, all day.
const freeze = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata:
  name: launch-day
spec:
  library: freeze_window
  parameters:
    windows:
    - {name: launch day, from: "2020-01-01T00:00:00Z", until: "2099-01-01T00:00:00Z"}
`

// open is the set that stays when the freeze is lifted.
const open = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata:
  name: do-not-disrupt
spec:
  library: do_not_disrupt
`

func main() {
	binary := flag.String("evictgate", "bin/evictgate", "the program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := demo(ctx, *binary); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func step(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }

func demo(ctx context.Context, binary string) error {
	if missing := kube.Missing(); len(missing) > 0 {
		return fmt.Errorf("not built: %s; run make controlplane", strings.Join(missing, ", "))
	}
	dir, err := os.MkdirTemp("", "evictgate-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	step("starting etcd, Kubernetes 1.37 and three nodes")
	plane, err := kube.Start(ctx, kube.Options{Controllers: true, Scheduler: true, Kwok: true, Nodes: 3})
	if err != nil {
		return err
	}
	defer func() { _ = plane.Stop() }()
	host, err := shop(ctx, plane)
	if err != nil {
		return err
	}
	step("starting evictgate with a policy that freezes evictions:\n\n%s", freeze)
	frozen := filepath.Join(dir, "freeze.yaml")
	for name, text := range map[string]string{frozen: freeze, filepath.Join(dir, "open.yaml"): open} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	g, err := gate.Start(ctx, gate.Options{Plane: plane, Binary: binary, Args: []string{"--policies", dir}})
	if err != nil {
		return err
	}
	defer func() { _ = g.Stop() }()
	return drain(ctx, plane, g, host, func() error { return os.Remove(frozen) })
}

// shop makes a Deployment with a budget and returns a node on which one of its pods runs.
func shop(ctx context.Context, plane *kube.ControlPlane) (string, error) {
	step("a Deployment of three with a budget: at least two stay ready")
	if _, err := plane.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if _, err := plane.Client.AppsV1().Deployments("shop").Create(ctx, kube.Deployment("shop", "web", 3), metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if _, err := plane.Client.PolicyV1().PodDisruptionBudgets("shop").Create(ctx, kube.Budget("shop", "web", intstr.FromInt32(2)), metav1.CreateOptions{}); err != nil {
		return "", err
	}
	pods, err := plane.WaitReady(ctx, "shop", "web")
	if err != nil {
		return "", err
	}
	if err := plane.WaitBudget(ctx, "shop", "web", 1); err != nil {
		return "", err
	}
	return pods[0].Spec.NodeName, plane.KubectlTo(ctx, nil, os.Stdout, os.Stderr, "get", "pods,pdb", "-n", "shop", "-o", "wide")
}

// drain runs kubectl drain, lifts the policy after the second refusal, and shows what was recorded.
func drain(ctx context.Context, plane *kube.ControlPlane, g *gate.Gate, host string, lift func() error) error {
	step("kubectl drain %s", host)
	var once sync.Once
	seen := &watcher{see: func(n int) {
		if n == 2 {
			once.Do(func() {
				step("kubectl came back and was told again; the policy is lifted now: rm freeze.yaml")
				if err := lift(); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			})
		}
	}}
	if err := plane.KubectlTo(ctx, nil, seen, seen, "drain", host, "--ignore-daemonsets", "--timeout=2m"); err != nil {
		return fmt.Errorf("kubectl drain: %w", err)
	}
	if _, err := plane.WaitReady(ctx, "shop", "web"); err != nil {
		return err
	}
	records, err := g.Records()
	if err != nil {
		return err
	}
	step("what was decided, from evictgate's records")
	for _, r := range records {
		fmt.Printf("%s  %-9s %d  %s/%s  by %s  %s\n", r.Timestamp.Format(time.TimeOnly), r.Result.Outcome, r.Result.Code,
			r.Request.Namespace, r.Request.Name, r.RequestedBy, r.Result.Message)
	}
	return nil
}

// watcher passes kubectl's output on and counts the refusals in it.
type watcher struct {
	mu       sync.Mutex
	refusals int
	see      func(int)
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := os.Stdout.Write(p)
	if strings.Contains(string(p), "will retry after") {
		w.refusals++
		w.see(w.refusals)
	}
	return n, err
}
