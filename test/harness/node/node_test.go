//go:build linux

package node_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/node"
	"github.com/evictgate/evictgate/test/harness/skip"
)

const manifest = `
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: default}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 10
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532}
      containers:
      - name: main
        image: hello:1
        args: ["$(WORD)"]
        env:
        - {name: WORD, value: first}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
        ports: [{name: http, containerPort: 8080}]
        resources: {limits: {memory: 64Mi}}
        securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /live, port: http}, periodSeconds: 1, failureThreshold: 1}
        startupProbe: {httpGet: {path: /live, port: http}, periodSeconds: 1, failureThreshold: 30}
        lifecycle: {preStop: {sleep: {seconds: 1}}}
        volumeMounts: [{name: secret, mountPath: /secret}, {name: tmp, mountPath: /tmp}]
      volumes:
      - {name: secret, secret: {secretName: hello}}
      - {name: tmp, emptyDir: {}}
`

// TestPodsReallyRun takes one Deployment through its life on the real control plane.
func TestPodsReallyRun(t *testing.T) {
	s := start(t)
	client := s.plane.Client.CoreV1()
	check(t, s.plane.Apply(t.Context(), manifest))

	s.waitFor(t, "a missing Secret holds the pods back, and the status says so", func(pods []corev1.Pod) error {
		for _, p := range pods {
			if w := p.Status.ContainerStatuses; len(w) == 1 && w[0].State.Waiting != nil && strings.Contains(w[0].State.Waiting.Message, `secret "hello" not found`) {
				return nil
			}
		}
		return fmt.Errorf("not told")
	})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hello"}, Data: map[string][]byte{"word": []byte("one")}}
	_, err := client.Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{})
	check(t, err)
	pods := s.ready(t, 2)

	t.Run("a container sees what its pod says", func(t *testing.T) {
		got := s.report(t, pods[0])
		env := got.Env
		got.Env = nil
		want := report{
			Hostname: pods[0].Name, Version: "first", PID: 1, UID: 65532, GID: 65532,
			TmpWritable: true, NoNewPrivs: true, Secret: "one", Namespace: "default",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for name, value := range map[string]string{
			"POD_IP": pods[0].Status.PodIP, "MEMORY": "67108864", "FROM_IMAGE": "yes", "KUBERNETES_SERVICE_HOST": s.network.Gateway(),
		} {
			if env[name] != value {
				t.Errorf("%s is %q, want %q", name, env[name], value)
			}
		}
	})

	t.Run("the API server reaches the pods through the Service", func(t *testing.T) {
		check(t, kube.Wait(t.Context(), "an answer by way of the API server", func(ctx context.Context) (bool, error) {
			raw, err := client.Services("default").ProxyGet("http", "hello", "80", "report", nil).DoRaw(ctx)
			return err == nil && strings.Contains(string(raw), `"Version":"first"`), err
		}))
	})

	t.Run("kubectl logs prints what a container wrote", func(t *testing.T) {
		out, stderr, err := s.plane.Kubectl(t.Context(), "logs", pods[0].Name)
		if err != nil || out != "hello from first\n" {
			t.Errorf("%v: %q %s", err, out, stderr)
		}
	})

	t.Run("a changed Secret reaches the volume", func(t *testing.T) {
		_, err := client.Secrets("default").Patch(t.Context(), "hello", types.StrategicMergePatchType, []byte(`{"stringData":{"word":"two"}}`), metav1.PatchOptions{})
		check(t, err)
		check(t, kube.Wait(t.Context(), "the new content", func(context.Context) (bool, error) { return s.report(t, pods[0]).Secret == "two", nil }))
	})

	t.Run("a container that ends is started again, and one whose liveness fails", func(t *testing.T) {
		_, _ = http.Get("http://" + pods[0].Status.PodIP + ":8080/exit") // it cannot answer
		s.waitFor(t, "a restart after exit code 3", func(pods []corev1.Pod) error { return restarted(pods, 3) })
		s.ready(t, 2)
		_, err := http.Get("http://" + pods[1].Status.PodIP + ":8080/fall-sick")
		check(t, err)
		s.waitFor(t, "a restart after exit code 0", func(pods []corev1.Pod) error { return restarted(pods, 0) })
		s.ready(t, 2)
	})

	t.Run("a rolling update replaces the pods", func(t *testing.T) {
		check(t, s.plane.Apply(t.Context(), strings.Replace(manifest, "value: first", "value: second", 1)))
		check(t, kube.Wait(t.Context(), "two new pods alone", func(ctx context.Context) (bool, error) {
			now := s.ready(t, 2)
			return !slices.ContainsFunc(now, func(p corev1.Pod) bool {
				return slices.ContainsFunc(pods, func(old corev1.Pod) bool { return old.UID == p.UID })
			}), nil
		}))
		for _, p := range s.ready(t, 2) {
			if got := s.report(t, p).Version; got != "second" {
				t.Errorf("pod %s runs %s", p.Name, got)
			}
		}
		log, err := s.agent.Log("default", pods[0].Name, "main")
		if err != nil || !strings.HasSuffix(log, "goodbye\n") {
			t.Errorf("the old pod was not asked to end: %v %q", err, log)
		}
	})

	t.Run("an image that is not there is told as a kubelet would", func(t *testing.T) {
		check(t, s.plane.Apply(t.Context(), strings.Replace(manifest, "image: hello:1", "image: hello:none", 1)))
		s.waitFor(t, "ImagePullBackOff", func(pods []corev1.Pod) error {
			for _, p := range pods {
				if c := p.Status.ContainerStatuses; len(c) == 1 && c[0].State.Waiting != nil && c[0].State.Waiting.Reason == "ImagePullBackOff" {
					return nil
				}
			}
			return fmt.Errorf("no pod says so")
		})
		check(t, s.plane.Apply(t.Context(), manifest))
		s.ready(t, 2)
	})

	t.Run("what cannot be done is refused", func(t *testing.T) {
		check(t, s.plane.Apply(t.Context(), `{apiVersion: v1, kind: Pod, metadata: {name: hello-host, namespace: default, labels: {app: host}},
  spec: {hostNetwork: true, containers: [{name: main, image: "hello:1"}]}}`))
		check(t, kube.Wait(t.Context(), "the refusal", func(ctx context.Context) (bool, error) {
			p, err := client.Pods("default").Get(ctx, "hello-host", metav1.GetOptions{})
			return err == nil && len(p.Status.ContainerStatuses) == 1 && strings.Contains(p.Status.ContainerStatuses[0].State.Waiting.Message, "not supported"), err
		}))
	})

	t.Run("a deletion leaves no process, network or file", func(t *testing.T) {
		pids := []int{}
		for _, p := range s.ready(t, 2) {
			for _, pid := range s.agent.Processes("default", p.Name) {
				pids = append(pids, pid)
			}
		}
		if len(pids) != 2 {
			t.Fatalf("got processes %v, want two", pids)
		}
		_, stderr, err := s.plane.Kubectl(t.Context(), "delete", "deployment/hello", "pod/hello-host", "--timeout=30s")
		if err != nil {
			t.Fatal(err, stderr)
		}
		check(t, kube.Wait(t.Context(), "the pods to go", func(ctx context.Context) (bool, error) {
			list, err := client.Pods("default").List(ctx, metav1.ListOptions{})
			return err == nil && len(list.Items) == 0, err
		}))
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
				t.Errorf("process %d: %v, want none", pid, err)
			}
		}
		// The API server removes an object that is deleted again once all its containers have ended.
		check(t, kube.Wait(t.Context(), "the cables to go", func(context.Context) (bool, error) {
			left, err := filepath.Glob("/sys/class/net/evg*-*")
			if left = s.cables(left); len(left) > 0 {
				err = fmt.Errorf("left: %v", left)
			}
			return err == nil, err
		}))
	})
}

// report is hello's.
type report struct {
	Hostname, Version string
	PID, UID, GID     int
	RootWritable      bool
	TmpWritable       bool
	HostVisible       bool
	NoNewPrivs        bool
	Env               map[string]string
	Secret            string
	Namespace         string
}

type setup struct {
	plane   *kube.ControlPlane
	agent   *node.Agent
	network *node.Network
}

func start(t *testing.T) *setup {
	t.Helper()
	kube.Need(t)
	skip.Without(t, node.Missing()...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	network, err := node.NewNetwork()
	check(t, err)
	t.Cleanup(func() { check(t, network.Close()) })
	plane, err := kube.Start(ctx, kube.Options{Address: network.Gateway(), Controllers: true, Scheduler: true, Kwok: true, OtherNodes: true})
	check(t, err)
	t.Cleanup(func() { check(t, plane.Stop()) })
	agent, err := node.Start(ctx, node.Options{
		Network: network, Config: plane.Config, Nodes: 2, BackOff: time.Second, Images: map[string]string{"hello:1": helloImage(t)},
	})
	check(t, err)
	t.Cleanup(func() { check(t, agent.Stop()) })
	return &setup{plane: plane, agent: agent, network: network}
}

// helloImage builds the program hello into an OCI layout.
func helloImage(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "hello")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	check(t, err)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	check(t, w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(content))}))
	_, err = w.Write(content)
	check(t, err)
	check(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	check(t, err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	check(t, err)
	image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/hello"}, Env: []string{"FROM_IMAGE=yes"}})
	check(t, err)
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	check(t, err)
	check(t, path.AppendImage(image))
	return dir
}

func (s *setup) pods(ctx context.Context) ([]corev1.Pod, error) {
	return s.plane.Pods(ctx, "default", "hello")
}

func (s *setup) waitFor(t *testing.T, what string, holds func([]corev1.Pod) error) {
	t.Helper()
	check(t, kube.Wait(t.Context(), what, func(ctx context.Context) (bool, error) {
		pods, err := s.pods(ctx)
		if err == nil {
			err = holds(pods)
		}
		return err == nil, err
	}))
}

// ready waits until there are that many pods, all of them ready.
func (s *setup) ready(t *testing.T, n int) (ready []corev1.Pod) {
	t.Helper()
	s.waitFor(t, fmt.Sprintf("%d ready pods", n), func(pods []corev1.Pod) error {
		for _, p := range pods {
			if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
				return fmt.Errorf("pod %s: %s %+v", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
			}
		}
		if len(pods) != n {
			return fmt.Errorf("%d pods", len(pods))
		}
		ready = pods
		return nil
	})
	return ready
}

func restarted(pods []corev1.Pod, code int32) error {
	for _, p := range pods {
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount > 0 && c.LastTerminationState.Terminated != nil && c.LastTerminationState.Terminated.ExitCode == code {
				return nil
			}
		}
	}
	return fmt.Errorf("no container was restarted after exit code %d", code)
}

func (s *setup) report(t *testing.T, p corev1.Pod) (r report) {
	t.Helper()
	response, err := http.Get("http://" + p.Status.PodIP + ":8080/report")
	check(t, err)
	defer func() { _ = response.Body.Close() }()
	check(t, json.NewDecoder(response.Body).Decode(&r))
	return r
}

// cables keeps those of our bridge.
func (s *setup) cables(all []string) []string {
	bridge := ""
	for i := range 32 {
		if s.network.Gateway() == fmt.Sprintf("10.%d.0.1", 64+i) {
			bridge = fmt.Sprintf("evg%d-", i)
		}
	}
	return slices.DeleteFunc(all, func(path string) bool { return !strings.HasPrefix(filepath.Base(path), bridge) })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
