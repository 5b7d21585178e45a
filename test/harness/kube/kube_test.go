package kube_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/skip"
)

// start starts a control plane that ends with the test, and says how long that took.
func start(t *testing.T, o kube.Options) *kube.ControlPlane {
	t.Helper()
	kube.Need(t)
	if o.Log == nil {
		o.Log = t.Output()
	}
	began := time.Now()
	c, err := kube.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("ready after %s", time.Since(began).Round(10*time.Millisecond))
	return c
}

func everything() kube.Options {
	return kube.Options{Nodes: 2, Controllers: true, Scheduler: true, Kwok: true}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deploy creates a Deployment of three with a budget of two and returns its pods.
func deploy(t *testing.T, c *kube.ControlPlane, namespace string) []corev1.Pod {
	t.Helper()
	ctx := t.Context()
	_, err := c.Client.AppsV1().Deployments(namespace).Create(ctx, kube.Deployment(namespace, "web", 3), metav1.CreateOptions{})
	check(t, err)
	_, err = c.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(ctx, kube.Budget(namespace, "web", intstr.FromInt32(2)), metav1.CreateOptions{})
	check(t, err)
	pods := must[[]corev1.Pod](t)(c.WaitReady(ctx, namespace, "web"))
	check(t, c.WaitBudget(ctx, namespace, "web", 1))
	return pods
}

func evict(ctx context.Context, client kubernetes.Interface, pod corev1.Pod) error {
	return client.CoreV1().Pods(pod.Namespace).EvictV1(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
	})
}

func TestControlPlane(t *testing.T) {
	c := start(t, everything())
	t.Logf("resident memory: %s", residentMemory(t, c))
	namespace := must[string](t)(c.Namespace(t.Context(), "shop"))
	pods := deploy(t, c, namespace)
	if len(pods) != 3 {
		t.Fatalf("got %d pods, want 3", len(pods))
	}

	t.Run("client and server are of the version that was asked for", func(t *testing.T) {
		stdout, stderr, err := c.Kubectl(t.Context(), "version")
		check(t, err)
		for _, want := range []string{"Client Version: v1.37.2\n", "Server Version: v1.37.2\n"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("kubectl version lacks %q: %s%s", want, stdout, stderr)
			}
		}
	})

	t.Run("a Service has an address of this machine, which leads nowhere else", func(t *testing.T) {
		check(t, kube.Wait(t.Context(), "the API server's own Service", func(ctx context.Context) (bool, error) {
			service, err := c.Client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
			return err == nil && net.ParseIP(service.Spec.ClusterIP).IsLoopback(), err
		}))
	})

	t.Run("an eviction is answered 201 and audited with user, bodies and answer", func(t *testing.T) {
		var code int
		body := `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"` + pods[0].Name + `"}}`
		err := c.Client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pods[0].Name).
			SubResource("eviction").Body([]byte(body)).SetHeader("Content-Type", "application/json").
			Do(t.Context()).StatusCode(&code).Error()
		check(t, err)
		if code != http.StatusCreated {
			t.Errorf("got code %d, want 201", code)
		}
		event := waitForEviction(t, c, pods[0].Name)
		if event.ResponseStatus.Code != http.StatusCreated || event.Stage != "ResponseComplete" || event.Verb != "create" ||
			event.User.Username != "evictgate-test-admin" || event.ObjectRef.Namespace != namespace ||
			!strings.Contains(string(event.RequestObject), pods[0].Name) || len(event.ResponseObject) == 0 {
			t.Errorf("unexpected audit event %+v", event)
		}
	})

	t.Run("the evicted pod goes, is replaced, and the budget recovers", func(t *testing.T) {
		check(t, kube.Wait(t.Context(), "the evicted pod to go", func(ctx context.Context) (bool, error) {
			_, err := c.Client.CoreV1().Pods(namespace).Get(ctx, pods[0].Name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		}))
		if pods := must[[]corev1.Pod](t)(c.WaitReady(t.Context(), namespace, "web")); len(pods) != 3 {
			t.Errorf("got %d pods, want 3", len(pods))
		}
		check(t, c.WaitBudget(t.Context(), namespace, "web", 1))
	})

	t.Run("a pod that is not ready counts against its budget, and its neighbour's eviction is refused", func(t *testing.T) {
		check(t, c.SetPodReady(t.Context(), namespace, pods[1].Name, false))
		check(t, c.WaitBudget(t.Context(), namespace, "web", 0))
		if err := evict(t.Context(), c.Client, pods[2]); !apierrors.IsTooManyRequests(err) {
			t.Errorf("got %v, want 429", err)
		}
		check(t, c.SetPodReady(t.Context(), namespace, pods[1].Name, true))
		check(t, c.WaitBudget(t.Context(), namespace, "web", 1))
	})

	t.Run("a finalizer holds an evicted pod terminating until it is removed", func(t *testing.T) {
		client := c.Client.CoreV1().Pods(namespace)
		patch := func(finalizers string) {
			t.Helper()
			_, err := client.Patch(t.Context(), pods[1].Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":`+finalizers+`}}`), metav1.PatchOptions{})
			check(t, err)
		}
		patch(`["evictgate.dev/hold"]`)
		check(t, evict(t.Context(), c.Client, pods[1]))
		pod := must[*corev1.Pod](t)(client.Get(t.Context(), pods[1].Name, metav1.GetOptions{}))
		if pod.DeletionTimestamp == nil {
			t.Fatal("the evicted pod has no deletion timestamp")
		}
		_ = must[[]corev1.Pod](t)(c.WaitReady(t.Context(), namespace, "web"))
		_ = must[*corev1.Pod](t)(client.Get(t.Context(), pods[1].Name, metav1.GetOptions{}))
		patch(`null`)
		check(t, kube.Wait(t.Context(), "the held pod to go", func(ctx context.Context) (bool, error) {
			_, err := client.Get(ctx, pods[1].Name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		}))
	})

	t.Run("another user evicts what RBAC lets him", func(t *testing.T) {
		config := must[*rest.Config](t)(c.UserConfig("drainer", "ops"))
		client := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(config))
		check(t, c.WaitBudget(t.Context(), namespace, "web", 1))
		if err := evict(t.Context(), client, pods[2]); !apierrors.IsForbidden(err) {
			t.Fatalf("got %v before the role binding, want 403", err)
		}
		check(t, c.Apply(t.Context(), drainerRole))
		check(t, kube.Wait(t.Context(), "the drainer's eviction", func(ctx context.Context) (bool, error) {
			err := evict(ctx, client, pods[2])
			return err == nil, err
		}))
		event := waitForEviction(t, c, pods[2].Name)
		if event.User.Username != "drainer" {
			t.Errorf("the audit log says %s, want drainer", event.User.Username)
		}
	})

	t.Run("kubectl drain empties a node", func(t *testing.T) {
		stdout, stderr, err := c.Kubectl(t.Context(), "drain", "node-1", "--timeout=30s")
		if err != nil {
			t.Fatalf("%v\n%s%s", err, stdout, stderr)
		}
		if !strings.Contains(stdout, "node/node-1 drained") {
			t.Errorf("unexpected output %s%s", stdout, stderr)
		}
	})

	t.Run("only evictions and budget writes are audited, each once", func(t *testing.T) {
		seen := map[string]bool{}
		for _, e := range must[[]kube.AuditEvent](t)(c.AuditEvents()) {
			if what := e.ObjectRef.Resource + "/" + e.ObjectRef.Subresource; what != "pods/eviction" && what != "poddisruptionbudgets/status" {
				t.Errorf("the audit log holds %s of %s", e.Verb, what)
			}
			if seen[e.AuditID] {
				t.Errorf("audit id %s occurs twice", e.AuditID)
			}
			seen[e.AuditID] = true
		}
	})

	t.Run("a namespace that is deleted goes", func(t *testing.T) {
		empty := must[string](t)(c.Namespace(t.Context(), "empty"))
		check(t, c.Client.CoreV1().Namespaces().Delete(t.Context(), empty, metav1.DeleteOptions{}))
		check(t, kube.Wait(t.Context(), "the namespace to go", func(ctx context.Context) (bool, error) {
			_, err := c.Client.CoreV1().Namespaces().Get(ctx, empty, metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		}))
	})
}

const drainerRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: drainer}
rules:
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: drainer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: drainer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: ops}]
`

func waitForEviction(t *testing.T, c *kube.ControlPlane, pod string) (found kube.AuditEvent) {
	t.Helper()
	check(t, kube.Wait(t.Context(), "the audit event of the eviction of "+pod, func(context.Context) (bool, error) {
		events, err := c.AuditEvents()
		for _, e := range events {
			if e.ObjectRef.Subresource == "eviction" && e.ObjectRef.Name == pod && e.ResponseStatus.Code == http.StatusCreated {
				found = e
				return true, nil
			}
		}
		return false, err
	}))
	return found
}

func TestTwoControlPlanesSideBySide(t *testing.T) {
	first, second := start(t, kube.Options{}), start(t, kube.Options{})
	name := must[string](t)(first.Namespace(t.Context(), "first"))
	_, err := second.Client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want not found: the control planes share their data", err)
	}
	check(t, second.Stop())
	_ = must[*corev1.Namespace](t)(first.Client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}))
}

func TestAPIServerCanBeRestartedKilledAndPaused(t *testing.T) {
	c := start(t, kube.Options{Nodes: 1, Kwok: true})
	get := func(ctx context.Context) error {
		_, err := c.Client.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
		return err
	}
	pid := c.PIDs()[kube.APIServer]
	check(t, c.Restart(t.Context(), kube.APIServer))
	check(t, get(t.Context()))
	if c.PIDs()[kube.APIServer] == pid {
		t.Error("the API server still runs under its old process id")
	}

	check(t, c.Kill(kube.APIServer))
	if err := get(t.Context()); err == nil {
		t.Error("a killed API server answers")
	}
	check(t, c.Restart(t.Context(), kube.APIServer))
	check(t, get(t.Context()))

	check(t, c.Pause(kube.APIServer))
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := get(short); err == nil {
		t.Error("a paused API server answers")
	}
	check(t, c.Resume(kube.APIServer))
	check(t, get(t.Context()))

	if err := c.Restart(t.Context(), kube.Scheduler); err == nil || err.Error() != "restart: kube-scheduler was not started" {
		t.Errorf("got %v for a program that was not started", err)
	}
	check(t, c.Pause(kube.Etcd)) // Stop ends a paused program too
}

func TestBarePodBecomesReadyWithoutControllers(t *testing.T) {
	c := start(t, kube.Options{Nodes: 1, Kwok: true})
	namespace := must[string](t)(c.Namespace(t.Context(), "bare"))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bare"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "main", Image: "example.com/bare:1"}}},
	}
	_ = must[*corev1.Pod](t)(c.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}))
	check(t, kube.Wait(t.Context(), "the pod to run", func(ctx context.Context) (bool, error) {
		pod, err := c.Client.CoreV1().Pods(namespace).Get(ctx, "bare", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	}))
}

func TestStopLeavesNothing(t *testing.T) {
	c := start(t, everything())
	pids := c.PIDs()
	if len(pids) != 5 {
		t.Fatalf("got processes %v, want five", pids)
	}
	began := time.Now()
	check(t, c.Stop())
	t.Logf("stopped after %s", time.Since(began).Round(10*time.Millisecond))
	for name, pid := range pids {
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("%s still exists: %v", name, err)
		}
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is left: %v", err)
	}
	check(t, c.Stop())
	if _, _, err := c.Kubectl(t.Context(), "version"); err == nil {
		t.Error("kubectl started on a stopped control plane")
	}
}

// TestKilledProcessLeavesNothing runs this test binary again, kills it, and looks for the
// control plane that it had started.
func TestKilledProcessLeavesNothing(t *testing.T) {
	const child = "EVICTGATE_KUBE_TEST_CHILD"
	if os.Getenv(child) != "" {
		c := start(t, kube.Options{Log: os.Stderr, Dir: os.Getenv(child)})
		for range 50 { // churn, to show that the end of other threads does not matter
			go func() { runtime.LockOSThread() }()
		}
		time.Sleep(200 * time.Millisecond)
		pids := c.PIDs()
		stopped := exec.Command("sleep", "60")
		check(t, kube.Spawn(stopped))
		check(t, stopped.Process.Signal(syscall.SIGSTOP))
		fmt.Printf("pids %d %d %d\n", pids[kube.Etcd], pids[kube.APIServer], stopped.Process.Pid)
		time.Sleep(time.Minute) // until it is killed
		return
	}
	if runtime.GOOS != "linux" {
		skip.Without(t, "Linux")
	}
	kube.Need(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"="+t.TempDir())
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	check(t, cmd.Start())
	var etcd, apiserver, stopped int
	if _, err := fmt.Fscanf(out, "pids %d %d %d\n", &etcd, &apiserver, &stopped); err != nil {
		t.Errorf("the child did not say what it started: %v", err)
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it says that it was killed
	for _, pid := range []int{etcd, apiserver, stopped} {
		check(t, kube.Wait(t.Context(), fmt.Sprintf("process %d to end", pid), func(context.Context) (bool, error) {
			return gone(pid), nil
		}))
	}
}

// gone: an orphan that ended may stay as a zombie where nobody reaps it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestStartNamesTheProgramThatFails(t *testing.T) {
	kube.Need(t)
	began := time.Now()
	_, err := kube.Start(t.Context(), kube.Options{APIServerArgs: []string{"--no-such-flag"}})
	want := regexp.MustCompile(`(?s)^start kube-apiserver: waited .*: it ended: exit status 1.*; its log ends with:.*unknown flag: --no-such-flag`)
	if err == nil || !want.MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

func TestMissingNamesWhatIsNotBuilt(t *testing.T) {
	t.Setenv("EVICTGATE_BIN", t.TempDir())
	want := "etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok kwok-stages"
	if got := strings.Join(kube.Missing(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err := kube.Start(t.Context(), kube.Options{})
	if err == nil || !strings.Contains(err.Error(), "run make controlplane") {
		t.Errorf("got %v", err)
	}
}

func TestWaitSaysWhatItWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	err := kube.Wait(ctx, "the rain", func(context.Context) (bool, error) { return false, fmt.Errorf("the sky is blue") })
	want := regexp.MustCompile(`^waited [0-9.]+m?s for the rain: context deadline exceeded \(last error: the sky is blue\)$`)
	if err == nil || !want.MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}

// residentMemory lists what each program holds in memory, and the sum, from /proc.
func residentMemory(t *testing.T, c *kube.ControlPlane) string {
	t.Helper()
	line := regexp.MustCompile(`VmRSS:\s+(\d+) kB`)
	total, parts := 0, []string{}
	for name, pid := range c.PIDs() {
		status := must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))
		match := line.FindSubmatch(status)
		if match == nil {
			t.Fatalf("no VmRSS of %s", name)
		}
		kb := must[int](t)(strconv.Atoi(string(match[1])))
		total += kb
		parts = append(parts, fmt.Sprintf("%s %d MiB", name, kb/1024))
	}
	return fmt.Sprintf("%d MiB (%s)", total/1024, strings.Join(parts, ", "))
}

// A port is given away once, and no other process takes it for one of its own.
func TestFreePortsAreGivenAwayOnce(t *testing.T) {
	given := map[int]bool{}
	for range 300 { // by chance alone, two of them would be the same in 99 of 100 runs
		ports, err := kube.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		if given[ports[0]] {
			t.Fatalf("port %d was given away twice", ports[0])
		}
		given[ports[0]] = true
	}
	for port := range given {
		address := fmt.Sprintf(":%d", port)
		if l, err := net.ListenPacket("udp", address); err == nil {
			_ = l.Close()
			t.Fatalf("another process would take port %d", port)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatalf("no program can listen: %v", err)
		}
		_ = l.Close()
	}
}
