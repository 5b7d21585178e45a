package e2e

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// cacheUser may do what the gate's service account may, until its binding is deleted.
const cacheUser = "evictgate-cache"

const cacheRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: evictgate-cache}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view-all}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: evictgate-cache}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: view-all}
rules:
- {apiGroups: ["", apps, batch, policy], resources: ["*"], verbs: [get, list, watch]}
`

// lines are the connections of a client, which can be cut.
type lines struct {
	mu   sync.Mutex
	open []net.Conn
}

func (l *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		l.mu.Lock()
		l.open = append(l.open, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

// The service account loses its rights and the watches break. A pod that is protected afterwards must not be
// admitted by what the cache remembers, and in the end the replica is not ready.
func TestRightsThatAreTakenAway(t *testing.T) {
	plane := ownPlane(t)
	mustApply(t, plane, cacheRole)
	config, err := plane.UserConfig(cacheUser)
	if err != nil {
		t.Fatal(err)
	}
	var l lines
	informed, client := informersOf(t, config, &l)
	namespace, err := plane.Namespace(t.Context(), "cache")
	if err != nil {
		t.Fatal(err)
	}
	makePod(t, plane, namespace, "web")
	g := &cluster.Gatherer{Store: informed.Store, Objects: cluster.Client{Interface: client}, Live: cluster.Client{Interface: client}}
	set, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte("package eviction.x\n\ndeny contains {\"reason\": \"x\", \"detail\": {}} if input.pod.metadata.annotations.x\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := informed.Want(t.Context(), set.Needs()); err != nil {
		t.Fatal(err)
	}
	gather := func() *policies.Input {
		in, _ := g.Gather(t.Context(), policies.Request{Namespace: namespace, Name: "web"}, set.Needs(), time.Now())
		return in
	}
	wait(t, "the pod", func() bool { in := gather(); return in.Pod != nil && in.Unknown == "" && len(in.Confirmed) == 0 })

	if err := plane.Client.RbacV1().ClusterRoleBindings().Delete(t.Context(), "evictgate-cache", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rights to be gone", func() bool {
		_, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		return err != nil
	})
	l.cut()
	wait(t, "the doubt", func() bool { return strings.Contains(gather().Unknown, "answers 403 Forbidden") })
	wait(t, "the replica not to be ready", func() bool { return informed.Refused(nil) != nil })

	mustApply(t, plane, cacheRole)
	wait(t, "the replica to be ready again", func() bool { return informed.Refused(nil) == nil && gather().Unknown == "" })
	annotate(t, plane, namespace, "web")
	wait(t, "the cache to be current", func() bool {
		in := gather()
		return in.Pod.Annotations["x"] == "true" && len(in.Confirmed) == 0
	})
}

// A read of the API server decides while only the watch is broken.
func TestAPodIsReadLiveWhileItsWatchFails(t *testing.T) {
	plane := ownPlane(t)
	mustApply(t, plane, strings.Replace(cacheRole, "[get, list, watch]", "[get, list, watch, nothing]", 1))
	config, err := plane.UserConfig(cacheUser)
	if err != nil {
		t.Fatal(err)
	}
	var l lines
	informed, client := informersOf(t, config, &l)
	namespace, err := plane.Namespace(t.Context(), "cache")
	if err != nil {
		t.Fatal(err)
	}
	makePod(t, plane, namespace, "web")
	g := &cluster.Gatherer{Store: informed.Store, Objects: cluster.Client{Interface: client}}
	gather := func() *policies.Input {
		in, _ := g.Gather(t.Context(), policies.Request{Namespace: namespace, Name: "web"}, &policies.Needs{}, time.Now())
		return in
	}
	wait(t, "the pod", func() bool { return gather().Pod != nil })
	mustApply(t, plane, strings.Replace(cacheRole, "[get, list, watch]", "[get]", 1))
	wait(t, "the rights to be gone", func() bool {
		_, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		return err != nil
	})
	l.cut()
	wait(t, "the watch to fail", func() bool { return !informed.PodsCurrent() })
	annotate(t, plane, namespace, "web")
	if in := gather(); in.Pod.Annotations["x"] != "true" || in.Unknown != "" || len(in.Confirmed) != 1 {
		t.Errorf("gathered %v, confirmed %v, unknown %q", in.Pod.Annotations, in.Confirmed, in.Unknown)
	}
}

// informersOf starts informers whose connections l can cut.
func informersOf(t *testing.T, config *rest.Config, l *lines) (*cluster.Informed, kubernetes.Interface) {
	t.Helper()
	config = rest.CopyConfig(config)
	config.Dial = l.dial
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	informed, err := cluster.Watch(client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = informed.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	wait(t, "the informers", func() bool { return informed.Ready(nil) == nil })
	return informed, client
}

func makePod(t *testing.T, plane *kube.ControlPlane, namespace, name string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
	if _, err := plane.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func annotate(t *testing.T, plane *kube.ControlPlane, namespace, name string) {
	t.Helper()
	if _, _, err := plane.Kubectl(t.Context(), "annotate", "pod", "-n", namespace, name, "x=true"); err != nil {
		t.Fatal(err)
	}
}

// wait waits for something, as long as a client may that was refused often.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := kube.Wait(ctx, what, func(context.Context) (bool, error) { return is(), nil }); err != nil {
		t.Fatal(err)
	}
}
