package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies/output"
)

// TestPreviewOfABigDrain previews the drain of a node with 1,000 pods: 100 Deployments of 10 in one
// namespace, each under a budget that lets one go at a time. The bound is against a hang; it takes about
// 1.5 s on two idle cores.
func TestPreviewOfABigDrain(t *testing.T) {
	const workloads, replicas, bound = 100, 10, time.Minute
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, bigCluster(workloads, replicas), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	started := time.Now()
	code := run(t.Context(), []string{"preview", "--snapshot", file, "node/old"}, output.Printer{Out: &out, Err: &progress})
	took := time.Since(started)
	if code != 0 || !strings.Contains(out.String(), "0 of 1000 pods refused now; a drain evicts all, the last after 4m30s") {
		t.Fatalf("exit %d: %s\n%s", code, lastLine(out.String()), progress.String())
	}
	if took > bound {
		t.Errorf("it took %s", took)
	}
	t.Logf("%d pods: %s", workloads*replicas, took.Round(10*time.Millisecond))
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// bigCluster is what kubectl prints of it.
func bigCluster(workloads, replicas int) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n")
	for _, node := range append([]string{"old"}, strings.Fields(strings.Repeat("new ", 20))...) {
		if node == "new" {
			node = fmt.Sprintf("new-%d", b.Len())
		}
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Node, metadata: {name: %s, labels: {kubernetes.io/hostname: %s}}}\n", node, node)
	}
	for i := range workloads {
		fmt.Fprintf(&b, `- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: app-%[1]d, namespace: shop, uid: d-%[1]d}
  spec: {replicas: %[2]d, selector: {matchLabels: {app: app-%[1]d}}}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata:
    {name: app-%[1]d-6d4, namespace: shop, uid: r-%[1]d, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: app-%[1]d, uid: d-%[1]d, controller: true}]}
  spec: {replicas: %[2]d, selector: {matchLabels: {app: app-%[1]d}}}
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: {name: app-%[1]d, namespace: shop}
  spec: {maxUnavailable: 1, selector: {matchLabels: {app: app-%[1]d}}}
  status: {currentHealthy: %[2]d, desiredHealthy: %[3]d, expectedPods: %[2]d, disruptionsAllowed: 1}
`, i, replicas, replicas-1)
		for j := range replicas {
			fmt.Fprintf(&b, `- apiVersion: v1
  kind: Pod
  metadata:
    name: app-%[1]d-6d4-%[2]d
    namespace: shop
    uid: p-%[1]d-%[2]d
    labels: {app: app-%[1]d, pod-template-hash: 6d4}
    ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: app-%[1]d-6d4, uid: r-%[1]d, controller: true}]
  spec:
    nodeName: old
    containers:
    - {name: main, image: "registry.example/app:1", resources: {requests: {cpu: 100m, memory: 128Mi}}, ports: [{containerPort: 8080}]}
  status:
    phase: Running
    startTime: "2026-11-02T07:00:00Z"
    conditions:
    - {type: Ready, status: "True", lastTransitionTime: "2026-11-02T07:00:30Z"}
    - {type: PodScheduled, status: "True", lastTransitionTime: "2026-11-02T07:00:00Z"}
`, i, j)
		}
	}
	return b.Bytes()
}
