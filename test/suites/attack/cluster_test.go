package attack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// plane is the control plane that all attacks by the API server share.
type plane struct {
	*kube.ControlPlane
	policies dynamic.NamespaceableResourceInterface
	gates    int
}

// plane starts the control plane when the first attack needs it. There are no controllers: pods are what an attack
// makes them.
func (w *world) plane(t *testing.T) *plane {
	t.Helper()
	w.planeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(w.parent.Context(), 2*time.Minute)
		defer cancel()
		control, err := kube.Start(ctx, kube.Options{})
		must(t, err)
		w.parent.Cleanup(func() { _ = control.Stop() })
		must(t, control.InstallCRDs(ctx))
		client := got(dynamic.NewForConfig(control.Config))(t)
		w.shared = &plane{ControlPlane: control, policies: client.Resource(evictionPolicies)}
	})
	if w.shared == nil {
		t.Fatal("the control plane did not start")
	}
	return w.shared
}

var evictionPolicies = schema.GroupVersionResource{Group: "evictgate.dev", Version: "v1alpha1", Resource: "evictionpolicies"}

// scene is a gate before a namespace of its own, under attack.
type scene struct {
	*stage
	subject   *subject
	plane     *plane
	gate      *gate.Gate
	namespace string
}

// checked is the label of the EvictionPolicies that the webhook checks; others are stored as they are, as while the
// gate is away.
const checked = "attack/checked"

// install registers and starts the program, with policies of the cluster.
func install(st *stage, arguments ...string) *scene {
	st.Helper()
	p := st.plane(st.T)
	p.gates++
	c := &scene{stage: st, plane: p, namespace: got(p.Namespace(st.Context(), "attack"))(st.T)}
	box := newBox(st.T, binary(st.T))
	g, err := gate.Start(st.Context(), gate.Options{
		Plane: p.ControlPlane, Binary: box.program, Name: fmt.Sprintf("evictgate-%d", p.gates), Namespaces: []string{c.namespace},
		Policies: &metav1.LabelSelector{MatchLabels: map[string]string{checked: "true"}},
		Args:     append([]string{"--policies", "default", "--policies", "cluster"}, arguments...),
	})
	must(st.T, err)
	c.gate = g
	c.subject = &subject{T: st.T, box: box, listen: g.Listen, metrics: g.Metrics, health: g.Health, given: 5, exited: g.Exited(), signal: g.Signal}
	s := c.subject
	s.stdout = got(os.Readlink(fmt.Sprintf("/proc/%d/fd/1", box.pid())))(st.T)
	s.log = strings.TrimSuffix(s.stdout, "records.jsonl") + "log"
	s.path = c.pathOf(0)
	st.Cleanup(func() {
		if st.Failed() {
			st.Logf("log of evictgate:\n%s", tail(s.logged()))
		}
		_ = g.Signal(syscall.SIGKILL)
		_ = g.Stop()
		must(st.T, p.policies.DeleteCollection(context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	})
	return c
}

// pathOf is where the API server calls a webhook: of evictions (0) or of EvictionPolicies (1).
func (c *scene) pathOf(webhook int) string {
	c.Helper()
	hooks := got(c.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(
		c.Context(), fmt.Sprintf("evictgate-%d", c.plane.gates), metav1.GetOptions{}))(c.T)
	return got(url.Parse(*hooks.Webhooks[webhook].ClientConfig.URL))(c.T).Path
}

// pod makes a running, ready pod without grace.
func (c *scene) pod(name string, annotations map[string]string) *corev1.Pod {
	c.Helper()
	pods := c.plane.Client.CoreV1().Pods(c.namespace)
	_, err := pods.Create(c.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}, Annotations: annotations},
		Spec: corev1.PodSpec{
			NodeName: "node-1", TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}},
		},
	}, metav1.CreateOptions{})
	must(c.T, err)
	must(c.T, c.plane.SetPodReady(c.Context(), c.namespace, name, true))
	return got(pods.Get(c.Context(), name, metav1.GetOptions{}))(c.T)
}

var protected = map[string]string{"karpenter.sh/do-not-disrupt": "true"}

// befriended are honest reviews about a pod that may go, and one that must not. The gate must have seen both.
func (c *scene) befriended() *honest {
	c.Helper()
	c.pod("free", nil)
	c.pod("stays", protected)
	c.until("the gate to know its pods", func() error { return c.refused("stays", http.StatusTooManyRequests) })
	ask := func(pod string, want answer) question {
		return question{review{Namespace: c.namespace, Pod: pod, User: "admin", Groups: []string{"system:masters"}}, want}
	}
	return befriend(c.subject, []question{ask("free", answer{Allowed: true}), ask("stays", answer{Code: http.StatusTooManyRequests})})
}

// until waits for what must come soon.
func (c *scene) until(what string, ok func() error) {
	c.Helper()
	must(c.T, kube.Wait(c.Context(), what, func(context.Context) (bool, error) {
		err := ok()
		return err == nil, err
	}))
}

// evict asks the API server, as somebody or, without a client, as the administrator.
func (c *scene) evict(as kubernetes.Interface, e *policyv1.Eviction) error {
	if as == nil {
		as = c.plane.Client
	}
	e.Namespace = c.namespace
	return as.PolicyV1().Evictions(c.namespace).Evict(c.Context(), e)
}

func evictionOf(pod string) *policyv1.Eviction {
	return &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod}}
}

func dryRun(e *policyv1.Eviction) *policyv1.Eviction {
	e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	return e
}

// refused wants a dry run to be refused by a decision of the gate.
func (c *scene) refused(pod string, code int32) error {
	err := c.evict(nil, dryRun(evictionOf(pod)))
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code == code && strings.Contains(err.Error(), "denied the request") {
		return nil
	}
	return fmt.Errorf("the eviction of %s got %v, expected %d of the gate", pod, err, code) //nolint:errorlint // nil when it was admitted
}

// tenant may create evictions in the scene's namespace, and nothing else.
func (c *scene) tenant() kubernetes.Interface {
	c.Helper()
	user := "tenant-" + c.namespace
	rbac := c.plane.Client.RbacV1()
	_, err := rbac.Roles(c.namespace).Create(c.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}}},
	}, metav1.CreateOptions{})
	must(c.T, err)
	_, err = rbac.RoleBindings(c.namespace).Create(c.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	must(c.T, err)
	client := got(kubernetes.NewForConfig(got(c.plane.UserConfig(user))(c.T)))(c.T)
	c.until("the tenant's rights", func() error {
		if err := c.evict(client, dryRun(evictionOf("nobody"))); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the eviction of no pod got %v", err) //nolint:errorlint // nil when it was admitted
		}
		return nil
	})
	return client
}

// policy is an EvictionPolicy; spec is what it is besides its match on this scene's namespace.
func (c *scene) policy(name string, spec map[string]any) *unstructured.Unstructured {
	spec["match"] = map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": c.namespace}}}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "evictgate.dev/v1alpha1", "kind": "EvictionPolicy", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// store creates an EvictionPolicy past the webhook.
func (c *scene) store(name string, spec map[string]any) {
	c.Helper()
	_, err := c.plane.policies.Create(c.Context(), c.policy(name, spec), metav1.CreateOptions{})
	must(c.T, err)
}

// serves waits until an EvictionPolicy is in force.
func (c *scene) serves(name string) {
	c.Helper()
	c.until("EvictionPolicy "+name+" to serve", func() error { return c.isReady(name) })
}

// serving waits some seconds until an EvictionPolicy is in force.
func (c *scene) serving(name string) error {
	ctx, cancel := context.WithTimeout(c.Context(), 15*time.Second)
	defer cancel()
	return kube.Wait(ctx, "EvictionPolicy "+name+" to serve", func(context.Context) (bool, error) {
		err := c.isReady(name)
		return err == nil, err
	})
}

func (c *scene) isReady(name string) error {
	o, err := c.plane.policies.Get(c.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	ready := func(v any) bool {
		m, ok := v.(map[string]any)
		return ok && m["type"] == "Ready" && m["status"] == "True"
	}
	if !slices.ContainsFunc(conditions, ready) {
		return fmt.Errorf("its conditions are %v", conditions)
	}
	return nil
}

// events are the messages of the Events in the namespace.
func (c *scene) events() (messages []string) {
	c.Helper()
	list := got(c.plane.Client.CoreV1().Events(c.namespace).List(c.Context(), metav1.ListOptions{}))(c.T)
	for _, e := range list.Items {
		messages = append(messages, e.Message)
	}
	return messages
}
