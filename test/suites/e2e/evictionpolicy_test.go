package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// hookName names the webhook configuration of the tests in this file.
const hookName = "evictgate-policies"

// ownPlane is a control plane of the test's own: EvictionPolicies belong to no namespace, and the tests
// install and remove their definition. There are no controllers, so pods are what the test says.
func ownPlane(t *testing.T) *kube.ControlPlane {
	t.Helper()
	kube.Need(t)
	t.Parallel()
	plane, err := kube.Start(t.Context(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Stop() })
	return plane
}

// policyServer is the server of EvictionPolicies and evictions, in this process.
type policyServer struct {
	sources *source.Sources
	status  *evictionpolicy.Status
	watch   *evictionpolicy.Watch
	hooks   *admissionregistrationv1.ValidatingWebhookConfiguration
	listen  string
	log     *logText
	stop    func()
}

// logText is a log that is read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// servePolicies starts a policyServer, which writes statuses at the interval. Its webhooks are not
// registered yet.
func servePolicies(t *testing.T, plane *kube.ControlPlane, interval time.Duration) *policyServer {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctrl.SetLogger(logr.Discard())
	s := &policyServer{sources: source.New(), listen: freePort(t), log: &logText{}}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	const name = "cluster"
	certificate, err := certs.Ephemeral([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	must(err)
	s.watch, err = evictionpolicy.NewWatch(plane.Config, log, func(ctx context.Context, units []source.Unit) {
		s.sources.Put(name, units, nil)
		s.sources.Settle(ctx)
	})
	must(err)
	s.status = evictionpolicy.NewStatus(s.watch, log)
	s.status.Interval = interval
	s.sources.Add(name, false)
	s.sources.OnChange = func(c source.Change) {
		if c.Set != nil {
			s.status.Verdicts(c.Verdicts[name], c.Set.Revision())
		}
	}
	informed, err := cluster.Watch(plane.Client)
	must(err)
	records := record.NewWriter(io.Discard, log)
	t.Cleanup(records.Close)
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry(), records)
	must(err)
	check := func(_ context.Context, u source.Unit) (check.Findings, error) {
		if problems := s.sources.Try(name, u); len(problems) > 0 {
			return check.Findings{Problems: problems}, nil
		}
		return check.Findings{Doubts: lint(u)}, nil
	}
	validator := evictionpolicy.Validator{Check: check, Log: log}
	server, err := webhook.NewServer(webhook.ServerOptions{
		RESTConfig: plane.Config, Certificates: certificate, Log: log,
		Gate: &webhook.Gate{
			Cluster: &cluster.Gatherer{Store: informed.Store, Live: cluster.Client{Interface: plane.Client}}, Policies: s.sources.Current,
			Options: policies.Options{}, Records: records, Metrics: metrics, Log: log, Now: time.Now,
			Observe: s.status.Observe,
		},
		Handlers:  map[string]http.Handler{hooks.PoliciesPath: validator.Handler()},
		Runnables: []manager.Runnable{informed, s.sources, s.watch, s.status},
		Listen:    s.listen, MetricsListen: "0", HealthListen: "0",
	})
	must(err)
	o := gate.Options{Name: hookName, CABundle: certificate.CAPEM(), Policies: &metav1.LabelSelector{}}
	s.hooks, err = o.Configuration(s.listen)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		flush(s.status)
	})
	t.Cleanup(s.stop)
	return s
}

// flush is what serve does when no decision can come any more.
func flush(s *evictionpolicy.Status) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s.Flush(ctx)
}

// lint is a second opinion that the tests recognise.
func lint(u source.Unit) policies.Problems {
	if bytes.Contains(u.Files[0].Data, []byte("doubtful")) {
		return policies.Problems{{File: u.Files[0].Name, Path: "spec.rego", InnerRow: 2, InnerCol: 1, Message: "the reason names the pod"}}
	}
	return nil
}

// register has the API server call the server's webhooks, instead of those of a server before it.
func (s *policyServer) register(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	unregister(t, plane)
	client := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := client.Create(t.Context(), s.hooks, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := kube.Wait(t.Context(), "the webhook to be called", func(ctx context.Context) (bool, error) {
		_, stderr, err := apply(ctx, plane, inline("probe", "package nonsense"), "--dry-run=server")
		return err != nil && strings.Contains(stderr, "neither a policy"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func unregister(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), hookName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	err = kube.Wait(t.Context(), "the webhook to be forgotten", func(ctx context.Context) (bool, error) {
		_, stderr, err := apply(ctx, plane, inline("probe", "package nonsense"), "--dry-run=server")
		return err == nil, errors.New(stderr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// apply tries again while the answer asks for it: on a slow machine a policy is not checked before the API server's
// call ends.
func apply(ctx context.Context, plane *kube.ControlPlane, manifest string, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	for range 6 {
		out.Reset()
		errOut.Reset()
		err = plane.KubectlTo(ctx, strings.NewReader(manifest), &out, &errOut, append([]string{"apply", "-f", "-"}, args...)...)
		if err == nil || !strings.Contains(errOut.String(), "was not checked in time; try again") {
			break
		}
	}
	return out.String(), errOut.String(), err
}

// bound is the manifest of an EvictionPolicy with that spec, in YAML.
func bound(name, spec string) string {
	return fmt.Sprintf("apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata:\n  name: %s\nspec:\n  %s\n", name, strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  "))
}

func inline(name, rego string) string {
	return bound(name, "rego: |\n  "+strings.ReplaceAll(strings.TrimSpace(rego), "\n", "\n  "))
}

func mustApply(t *testing.T, plane *kube.ControlPlane, manifest string) {
	t.Helper()
	if _, stderr, err := apply(t.Context(), plane, manifest); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func evps(t *testing.T, plane *kube.ControlPlane) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.Resource))
}

func stored(t *testing.T, plane *kube.ControlPlane, name string) *v1alpha1.EvictionPolicy {
	t.Helper()
	o, err := evps(t, plane).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return typed(t, o)
}

func typed(t *testing.T, o *unstructured.Unstructured) *v1alpha1.EvictionPolicy {
	t.Helper()
	var p v1alpha1.EvictionPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// awaitPolicy waits until a policy is as wanted.
func awaitPolicy(t *testing.T, plane *kube.ControlPlane, name, what string, wanted func(*v1alpha1.EvictionPolicy) bool) *v1alpha1.EvictionPolicy {
	t.Helper()
	var last *v1alpha1.EvictionPolicy
	err := kube.Wait(t.Context(), "policy "+name+" to be "+what, func(context.Context) (bool, error) {
		last = stored(t, plane, name)
		return wanted(last), nil
	})
	if err != nil {
		t.Fatalf("%v; its status is %+v", err, last.Status)
	}
	return last
}

func ready(p *v1alpha1.EvictionPolicy) *metav1.Condition {
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.ObservedGeneration != p.Generation || p.Status.ObservedGeneration != p.Generation {
		return nil
	}
	return c
}

func isReady(p *v1alpha1.EvictionPolicy) bool {
	c := ready(p)
	return c != nil && c.Status == metav1.ConditionTrue
}

func isBroken(p *v1alpha1.EvictionPolicy) bool {
	c := ready(p)
	return c != nil && c.Status == metav1.ConditionFalse
}

// pod creates a bare pod that runs.
func pod(t *testing.T, plane *kube.ControlPlane, name string) {
	t.Helper()
	_, err := plane.Client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/main"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.SetPodReady(t.Context(), "default", name, true); err != nil {
		t.Fatal(err)
	}
}

func tryEvict(t *testing.T, plane *kube.ControlPlane, name string, o *metav1.DeleteOptions) error {
	t.Helper()
	return plane.Client.PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, DeleteOptions: o})
}

const (
	typeError = `package eviction.closed

deny contains {"reason": "closed", "detail": {}} if input.pod.metadata.lables.app
`
	keep = `package eviction.%s

%s contains {"reason": "keep it", "detail": {}} if input.request.name == "%s"
`
)

func TestEvictionPolicies(t *testing.T) {
	plane := ownPlane(t)
	s := servePolicies(t, plane, 200*time.Millisecond)
	defer func() {
		if t.Failed() {
			t.Logf("log:\n%s", s.log)
		}
	}()
	t.Run("a server without the definition waits for it and says so once", func(t *testing.T) {
		const why = "the CustomResourceDefinition evictionpolicies.evictgate.dev is not installed: apply config/crd"
		err := kube.Wait(t.Context(), "the Watch to ask", func(context.Context) (bool, error) {
			err := s.watch.Ready(nil)
			return err != nil && err.Error() == why, err
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond) // it asks again
		if err := plane.InstallCRDs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := kube.Wait(t.Context(), "the Watch to be ready", func(context.Context) (bool, error) {
			err := s.watch.Ready(nil)
			return err == nil, err
		}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(s.log.String(), why); n != 1 {
			t.Errorf("told %d times", n)
		}
		s.register(t, plane)
	})
	t.Run("the samples are taken, serve and are listed", func(t *testing.T) { testSamples(t, plane) })
	t.Run("a broken policy is refused where it is broken", func(t *testing.T) { testRefusals(t, plane) })
	t.Run("a client gets the causes", func(t *testing.T) { testCauses(t, plane) })
	t.Run("a doubtful policy is taken with a warning", func(t *testing.T) {
		_, stderr, err := apply(t.Context(), plane, inline("doubtful", strings.ReplaceAll(typeError, "lables", "labels")), "--dry-run=server")
		if err != nil || strings.TrimSpace(stderr) != "Warning: spec.rego:2:1: the reason names the pod" {
			t.Errorf("%v: %q", err, stderr)
		}
	})
	t.Run("what was stored unchecked is told in the status", func(t *testing.T) { testUnchecked(t, plane, s) })
	t.Run("two that cannot stand beside each other", func(t *testing.T) { testConflict(t, plane, s) })
	t.Run("evictions are counted, and the counts outlive the server", func(t *testing.T) { testCounts(t, plane, s) })
}

func testSamples(t *testing.T, plane *kube.ControlPlane) {
	dir := "../../../config/samples/policies"
	if _, stderr, err := plane.Kubectl(t.Context(), "apply", "-f", dir); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if _, stderr, err := plane.Kubectl(t.Context(), "wait", "--for=condition=Ready", "--timeout=30s", "evictionpolicies", "--all"); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	out, _, err := plane.Kubectl(t.Context(), "get", "evp")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		rows = append(rows, fields[:len(fields)-1])
	}
	want := [][]string{
		{"NAME", "POLICY", "ENFORCEMENT", "READY", "REFUSED", "WARNED"},
		{"budgets-wanted", "require_budget", "Warn", "True", "0", "0"},
		{"keep-two-ready", "last_ready_replica", "Enforce", "True", "0", "0"},
		{"night-freeze", "freeze_window", "Enforce", "True", "0", "0"},
		{"shop-databases", "inline", "Enforce", "True", "0", "0"},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("kubectl get evp (-want +got):\n%s\n%s", diff, out)
	}
	wide, _, err := plane.Kubectl(t.Context(), "get", "evictgate", "-o", "wide")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, wide, "AUDITED", "FAILED", "LAST", "MESSAGE", "the policy is compiled and serves")
	// What came in as a file serves as the same from a directory.
	set, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(set.Policies()); n != 4 {
		t.Errorf("%d policies from the directory", n)
	}
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "evp", "--all"); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func testRefusals(t *testing.T, plane *kube.ControlPlane) {
	const denied = `admission webhook "policies.evictgate.dev" denied the request: `
	for name, c := range map[string]struct {
		manifest string
		says     []string
	}{
		"Rego with a type error": {inline("broken", typeError), []string{
			`The EvictionPolicy "broken" is invalid: spec.rego: 3:72: input.pod.metadata has no field lables; did you mean labels?`,
		}},
		"Rego with two errors": {inline("broken", "package eviction.two\n\ndeny contains foo(1)\n\ndelay contains bar(1)\n"), []string{
			"spec.rego: 3:15: there is no function foo", "spec.rego: 5:16: there is no function bar",
		}},
		"Rego that does not parse": {inline("broken", "package eviction.two\n\ndeny contains {\n"), []string{"spec.rego: 3:15: this { is never closed"}},
		"another package":          {inline("broken", "package nonsense\n"), []string{"spec.rego: 1:1: package nonsense is neither a policy, eviction.<id>, nor a helper below lib"}},
		"a misspelt parameter":     {bound("broken", "library: last_ready_replica\nparameters: {min_redy: 2}"), []string{`spec.parameters.min_redy: there is no parameter min_redy; did you mean min_ready?`}},
		"a parameter of the wrong type": {bound("broken", "library: last_ready_replica\nparameters: {min_ready: two}"), []string{
			`The EvictionPolicy "broken" is invalid: spec.parameters.min_ready: parameter min_ready: Invalid type. Expected: integer, given: string`,
		}},
		"an unknown library id":         {bound("broken", "library: nope"), []string{`spec.library: the library has no policy nope; there are bare_pod, `}},
		"a selector that is none":       {bound("broken", "library: require_budget\nmatch: {podSelector: {matchExpressions: [{key: a, operator: Near}]}}"), []string{`spec.match.podSelector: "Near" is not a valid label selector operator`}},
		"both rego and library":         {bound("broken", "library: freeze_window\nrego: package eviction.a"), []string{`The EvictionPolicy "broken" is invalid: spec: Invalid value: `, `set exactly one of library and rego`}},
		"neither rego nor library":      {bound("broken", "enforcement: Warn"), []string{`set exactly one of library and rego`}},
		"an enforcement that is none":   {bound("broken", "library: freeze_window\nenforcement: Block"), []string{`spec.enforcement: Unsupported value: "Block": supported values: "Enforce", "Warn", "Audit"`}},
		"a hold of no time":             {bound("broken", "library: freeze_window\nmaxHold: 0s"), []string{`spec.maxHold: Invalid value: "`, `": must be a time above zero, such as 24h or 90m`}},
		"a negative hold":               {bound("broken", "library: freeze_window\nmaxHold: -1h"), []string{`spec.maxHold: Invalid value: "`, `": must be a time above zero`}},
		"a hold in days":                {bound("broken", "library: freeze_window\nmaxHold: 1d"), []string{`spec.maxHold: Invalid value: "`, `": must be a time above zero`}},
		"no evictors":                   {bound("broken", "library: freeze_window\nmatch: {evictors: []}"), []string{`spec.match.evictors: Invalid value: 0: spec.match.evictors in body should have at least 1 items`}},
		"an empty evictor":              {bound("broken", "library: freeze_window\nmatch: {evictors: [{}]}"), []string{`spec.match.evictors[0]: Invalid value: `, `is empty; name a kind, user or group`}},
		"an exclude of everything":      {bound("broken", "library: freeze_window\nmatch: {excludes: [{}]}"), []string{`spec.match.excludes[0]: Invalid value: `, `would exclude every eviction`}},
		"a state that says nothing":     {bound("broken", "library: freeze_window\nmatch: {excludes: [{podState: {crashLooping: false}}]}"), []string{`set crashLooping to true, or unreadyFor`}},
		"a field that there is not":     {bound("broken", "library: freeze_window\nmode: hard"), []string{`unknown field "spec.mode"`}},
		"parameters that are not a map": {bound("broken", "library: freeze_window\nparameters: [1]"), []string{`spec.parameters: Invalid value: "array": spec.parameters in body must be of type object`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := apply(t.Context(), plane, c.manifest)
			if err == nil {
				t.Fatal("it was applied")
			}
			contains(t, stderr, c.says...)
			if strings.Contains(stderr, denied) && !strings.Contains(stderr, "is invalid: ") {
				t.Errorf("kubectl takes it for something else than an invalid object: %s", stderr)
			}
			if _, err := evps(t, plane).Get(t.Context(), "broken", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("it is stored: %v", err)
			}
		})
	}
}

func object(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		t.Fatal(err)
	}
	return &o
}

func testCauses(t *testing.T, plane *kube.ControlPlane) {
	_, err := evps(t, plane).Create(t.Context(), object(t, inline("broken", "package eviction.two\n\ndeny contains foo(1)\n\ndelay contains bar(1)\n")), metav1.CreateOptions{})
	got := status(t, err)
	if got.Code != http.StatusUnprocessableEntity || got.Reason != metav1.StatusReasonInvalid {
		t.Errorf("answered %d %s", got.Code, got.Reason)
	}
	const message = `admission webhook "policies.evictgate.dev" denied the request: EvictionPolicy "broken" is invalid: ` +
		"spec.rego:3:15: there is no function foo\nspec.rego:5:16: there is no function bar"
	if got.Message != message {
		t.Errorf("message %q", got.Message)
	}
	want := &metav1.StatusDetails{Group: "evictgate.dev", Kind: "EvictionPolicy", Name: "broken", Causes: []metav1.StatusCause{
		{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.rego", Message: "3:15: there is no function foo"},
		{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.rego", Message: "5:16: there is no function bar"},
	}}
	if diff := cmp.Diff(want, got.Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}

func testUnchecked(t *testing.T, plane *kube.ControlPlane, s *policyServer) {
	unregister(t, plane)
	mustApply(t, plane, inline("unchecked", typeError))
	p := awaitPolicy(t, plane, "unchecked", "found broken", isBroken)
	c := ready(p)
	if c.Reason != v1alpha1.ReasonInvalid || !strings.HasPrefix(c.Message, "spec.rego:3:72: input.pod.metadata has no field lables; did you mean labels?") ||
		!strings.HasSuffix(c.Message, "\nthe policy does not serve") || p.Status.Revision != "" {
		t.Errorf("condition %+v, revision %q", c, p.Status.Revision)
	}
	s.register(t, plane)
	if _, stderr, err := plane.Kubectl(t.Context(), "label", "evp", "unchecked", "team=shop"); err != nil {
		t.Errorf("a label on a broken policy: %v: %s", err, stderr)
	}
	if _, stderr, err := apply(t.Context(), plane, inline("unchecked", strings.ReplaceAll(typeError, "lables", "lebals"))); err == nil {
		t.Errorf("another broken version was taken: %s", stderr)
	}
	mustApply(t, plane, inline("unchecked", strings.ReplaceAll(typeError, "lables", "labels")))
	fixed := awaitPolicy(t, plane, "unchecked", "ready", isReady)
	if m := ready(fixed); fixed.Generation != 2 || m.Reason != v1alpha1.ReasonCompiled || !m.LastTransitionTime.After(c.LastTransitionTime.Add(-time.Second)) || fixed.Status.Revision != s.sources.Current().Revision() {
		t.Errorf("after the cure: %+v, revision %q of %q", m, fixed.Status.Revision, s.sources.Current().Revision())
	}
	// Another good version keeps the time of the transition.
	time.Sleep(1100 * time.Millisecond)
	mustApply(t, plane, inline("unchecked", strings.ReplaceAll(typeError, "lables", "annotations")))
	if next := awaitPolicy(t, plane, "unchecked", "ready", isReady); !ready(next).LastTransitionTime.Equal(&ready(fixed).LastTransitionTime) {
		t.Errorf("the transition moved from %s to %s", ready(fixed).LastTransitionTime, ready(next).LastTransitionTime)
	}
	clearAll(t, plane)
}

func clearAll(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "evp", "--all"); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func testConflict(t *testing.T, plane *kube.ControlPlane, s *policyServer) {
	mustApply(t, plane, inline("first", fmt.Sprintf(keep, "same", "deny", "a")))
	awaitPolicy(t, plane, "first", "ready", isReady)
	time.Sleep(time.Second) // the older has precedence, by the second
	second := inline("another", fmt.Sprintf(keep, "same", "deny", "b"))
	if _, stderr, err := apply(t.Context(), plane, second); err == nil || !strings.Contains(stderr, `The EvictionPolicy "another" is invalid: spec.rego: 1:1: policy eviction.same is defined in EvictionPolicy/first spec.rego, too`) {
		t.Errorf("%v: %s", err, stderr)
	}
	unregister(t, plane)
	mustApply(t, plane, second)
	c := ready(awaitPolicy(t, plane, "another", "found in conflict", isBroken))
	if c.Reason != v1alpha1.ReasonConflict || !strings.Contains(c.Message, "policy eviction.same is defined in EvictionPolicy/first spec.rego, too") {
		t.Errorf("condition %+v", c)
	}
	if !isReady(stored(t, plane, "first")) {
		t.Error("the first does not serve any more")
	}
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "evp", "first"); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	awaitPolicy(t, plane, "another", "ready, its generation the same", func(p *v1alpha1.EvictionPolicy) bool { return isReady(p) && p.Generation == 1 })
	// The revision of those that did not change follows.
	mustApply(t, plane, inline("third", fmt.Sprintf(keep, "other", "deny", "b")))
	awaitPolicy(t, plane, "third", "ready", isReady)
	awaitPolicy(t, plane, "another", "of the revision that serves", func(p *v1alpha1.EvictionPolicy) bool { return p.Status.Revision == s.sources.Current().Revision() })
	// A policy that breaks is served in its last good version, and says so.
	serves := s.sources.Current().Revision()
	mustApply(t, plane, inline("another", typeError))
	c = ready(awaitPolicy(t, plane, "another", "found broken", isBroken))
	if c.Reason != v1alpha1.ReasonInvalid || !strings.HasSuffix(c.Message, "\nits last good version goes on serving") || s.sources.Current().Revision() != serves {
		t.Errorf("condition %+v, revision %s after %s", c, s.sources.Current().Revision(), serves)
	}
	s.register(t, plane)
	clearAll(t, plane)
}

func testCounts(t *testing.T, plane *kube.ControlPlane, s *policyServer) {
	for name, enforcement := range map[string]string{"refuses": "Enforce", "warns": "Warn", "audits": "Audit"} {
		mustApply(t, plane, strings.Replace(inline(name, fmt.Sprintf(keep, name, "deny", "web")), "spec:", "spec:\n  enforcement: "+enforcement, 1))
	}
	// It fails: two values for one object key.
	mustApply(t, plane, strings.Replace(inline("fails", "package eviction.fails\n\ndeny contains {\"reason\": \"x\", \"detail\": _detail} if input.request.name == \"web\"\n\n_detail := {k: v | some v in [1, 2]; k := \"a\"}\n"), "spec:", "spec:\n  enforcement: Warn", 1))
	for _, name := range []string{"refuses", "warns", "audits", "fails"} {
		awaitPolicy(t, plane, name, "ready", isReady)
	}
	pod(t, plane, "web")
	before := time.Now().Add(-time.Second)
	err := kube.Wait(t.Context(), "the pod to be known to the gate", func(context.Context) (bool, error) {
		return apierrors.IsForbidden(tryEvict(t, plane, "web", &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := tryEvict(t, plane, "web", nil); !apierrors.IsForbidden(err) {
			t.Fatalf("answered %v", err)
		}
	}
	counts := func(name string, want v1alpha1.Counts) {
		t.Helper()
		p := awaitPolicy(t, plane, name, fmt.Sprintf("counted as %+v", want), func(p *v1alpha1.EvictionPolicy) bool {
			got := p.Status.Counts
			got.LastViolation = nil
			return got == want
		})
		if last := p.Status.Counts.LastViolation; (want.Failed > 0) != (last == nil) || (last != nil && last.Time.Before(before.Truncate(time.Second))) {
			t.Errorf("%s: the last violation was %v", name, last)
		}
		if !isReady(p) {
			t.Errorf("%s: counting changed the condition: %+v", name, p.Status)
		}
	}
	counts("refuses", v1alpha1.Counts{Refused: 3})
	counts("warns", v1alpha1.Counts{Warned: 3})
	counts("audits", v1alpha1.Counts{Audited: 3})
	counts("fails", v1alpha1.Counts{Failed: 3})

	// A server that is told to stop writes what it has not written.
	slow := servePolicies(t, plane, time.Hour)
	if err := kube.Wait(t.Context(), "the second server", func(context.Context) (bool, error) {
		err := slow.watch.Ready(nil)
		return err == nil && len(slow.sources.Current().Policies()) == 4, err
	}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	slow.register(t, plane)
	err = kube.Wait(t.Context(), "an eviction to be counted by the second server", func(context.Context) (bool, error) {
		return apierrors.IsForbidden(tryEvict(t, plane, "web", nil)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := stored(t, plane, "refuses").Status.Counts.Refused; got != 3 {
		t.Errorf("%d refused before the second server stops; it writes every hour", got)
	}
	slow.stop()
	counts("refuses", v1alpha1.Counts{Refused: 4})
	counts("warns", v1alpha1.Counts{Warned: 4})
}

// evictionBy makes a decision of one policy, as the gate would.
func evictionBy(policy string) (*policies.Input, *policies.Decision) {
	in := &policies.Input{}
	in.Now.Time = time.Now()
	return in, &policies.Decision{Violations: []policies.Violation{{Policy: policy, Effect: policies.Deny, Enforcement: policies.Enforce}}}
}

// replica is one replica's Watch and Status.
type replica struct {
	*evictionpolicy.Status
	watch      *evictionpolicy.Watch
	handedOver atomic.Int32
	stop       func()
}

// replicaUser may do what replicaRole says, and nothing else.
const replicaUser = "evictgate-replica"

const replicaRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: evictgate-replica}
rules:
- {apiGroups: [evictgate.dev], resources: [evictionpolicies], verbs: [get, list, watch]}
- {apiGroups: [evictgate.dev], resources: [evictionpolicies/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: evictgate-replica}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: evictgate-replica}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: evictgate-replica}]
`

// often is a short interval of writing.
const often = 20 * time.Millisecond

// judgeAs starts a replica that judges every policy in that way.
func judgeAs(t *testing.T, plane *kube.ControlPlane, interval time.Duration, revision string, problems ...policies.Problem) *replica {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	r := &replica{}
	config, err := plane.UserConfig(replicaUser)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := evictionpolicy.NewWatch(config, log, func(_ context.Context, units []source.Unit) {
		r.handedOver.Add(1)
		verdicts := map[string]source.Verdict{}
		for _, u := range units {
			verdicts[u.Name] = source.Verdict{Problems: problems, Kept: true}
		}
		r.Verdicts(verdicts, revision)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.watch, r.Status = watch, evictionpolicy.NewStatus(watch, log)
	r.Interval = interval
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = watch.Start(ctx) })
	running.Go(func() { _ = r.Start(ctx) })
	r.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		flush(r.Status)
	})
	t.Cleanup(r.stop)
	return r
}

func TestReplicasOfAPolicysStatus(t *testing.T) {
	plane := ownPlane(t)
	if err := plane.InstallCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("a replica that may not read says what to allow", func(t *testing.T) {
		r := judgeAs(t, plane, often, "one")
		err := kube.Wait(t.Context(), "the replica to be told", func(context.Context) (bool, error) {
			err := r.watch.Ready(nil)
			return err != nil && strings.HasPrefix(err.Error(), "allow get, list and watch on evictionpolicies.evictgate.dev: "), err
		})
		if err != nil {
			t.Error(err)
		}
		r.stop()
		mustApply(t, plane, replicaRole)
	})
	t.Run("the counts of replicas add up, and none is lost", func(t *testing.T) {
		const replicas, decisions = 5, 200
		mustApply(t, plane, bound("sum", "library: freeze_window"))
		var all []*replica
		for range replicas {
			all = append(all, judgeAs(t, plane, often, "one"))
		}
		awaitPolicy(t, plane, "sum", "ready", isReady)
		var working sync.WaitGroup
		for _, r := range all {
			awaitServing(t, r, "sum")
			working.Go(func() {
				for range decisions {
					r.Observe(evictionBy("sum"))
					time.Sleep(time.Millisecond)
				}
			})
		}
		working.Wait()
		for _, r := range all {
			r.stop()
		}
		if got := stored(t, plane, "sum").Status.Counts.Refused; got != replicas*decisions {
			t.Errorf("%d refused, expected %d", got, replicas*decisions)
		}
	})
	t.Run("a policy that is made anew starts from zero", func(t *testing.T) {
		r := judgeAs(t, plane, time.Hour, "one")
		awaitServing(t, r, "sum")
		r.Observe(evictionBy("sum"))
		clearAll(t, plane)
		mustApply(t, plane, bound("sum", "library: freeze_window"))
		awaitPolicy(t, plane, "sum", "ready", isReady)
		r.stop() // it writes what it counted
		if got := stored(t, plane, "sum").Status.Counts; got.Refused != 0 {
			t.Errorf("it has the counts of the one before: %+v", got)
		}
	})
	t.Run("many changes at once are one hand-over, and a status is none", func(t *testing.T) {
		clearAll(t, plane)
		r := judgeAs(t, plane, often, "one")
		if err := kube.Wait(t.Context(), "the first hand-over", func(context.Context) (bool, error) { return r.handedOver.Load() == 1, nil }); err != nil {
			t.Fatal(err)
		}
		var many strings.Builder
		for i := range 20 {
			fmt.Fprintf(&many, "---\n%s", bound(fmt.Sprintf("many-%d", i), "library: freeze_window"))
		}
		mustApply(t, plane, many.String())
		for i := range 20 {
			awaitPolicy(t, plane, fmt.Sprintf("many-%d", i), "ready", isReady)
		}
		time.Sleep(500 * time.Millisecond)
		if n := r.handedOver.Load(); n > 4 { // kubectl takes its time on a busy machine
			t.Errorf("%d hand-overs for one apply of 20", n)
		}
		r.stop()
	})
	t.Run("replicas that judge differently do not fight", func(t *testing.T) {
		clearAll(t, plane)
		mustApply(t, plane, bound("judged", "library: freeze_window"))
		before := judgeAs(t, plane, often, "old", policies.Problem{File: "EvictionPolicy/judged", Path: "spec.library", Message: "not in this version"})
		c := ready(awaitPolicy(t, plane, "judged", "found broken", isBroken))
		if want := "spec.library: not in this version\nits last good version goes on serving"; c.Message != want {
			t.Errorf("message %q", c.Message)
		}
		// The one that comes later has the last word; many intervals pass.
		after := judgeAs(t, plane, often, "new")
		awaitPolicy(t, plane, "judged", "ready", isReady)
		settled := stored(t, plane, "judged").ResourceVersion
		time.Sleep(time.Second)
		if p := stored(t, plane, "judged"); p.ResourceVersion != settled || !isReady(p) {
			t.Errorf("it was written again: %+v", p.Status)
		}
		// Counting by the overruled one leaves the condition alone.
		before.Observe(evictionBy("judged"))
		if p := awaitPolicy(t, plane, "judged", "counted", func(p *v1alpha1.EvictionPolicy) bool { return p.Status.Counts.Refused == 1 }); !isReady(p) || p.Status.Revision != "new" {
			t.Errorf("status %+v", p.Status)
		}
		// A new generation is judged by both, once each.
		mustApply(t, plane, bound("judged", "library: freeze_window\nenforcement: Warn"))
		versions := versionsOf(t, plane, "judged", 1500*time.Millisecond)
		if len(versions) > 3 { // the spec's, and one status each
			t.Errorf("%d versions after one change: %v", len(versions), versions)
		}
		// A status that is lost is written again.
		lose(t, plane, "judged")
		awaitPolicy(t, plane, "judged", "judged again", func(p *v1alpha1.EvictionPolicy) bool { return ready(p) != nil })
		before.stop()
		after.stop()
	})
	t.Run("a definition that is removed and comes back", func(t *testing.T) {
		r := judgeAs(t, plane, often, "one")
		awaitServing(t, r, "judged")
		if _, stderr, err := plane.Kubectl(t.Context(), "delete", "-f", "../../../config/crd"); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		if err := kube.Wait(t.Context(), "the policies to be gone", func(context.Context) (bool, error) { return !r.Serves("judged"), nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the watch fails in the meantime
		if err := plane.InstallCRDs(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustApply(t, plane, bound("anew", "library: freeze_window"))
		awaitPolicy(t, plane, "anew", "ready", isReady)
	})
}

// awaitServing waits until the replica has read the policy: before, it counts nothing of it.
func awaitServing(t *testing.T, r *replica, policy string) {
	t.Helper()
	err := kube.Wait(t.Context(), "the replica to serve "+policy, func(context.Context) (bool, error) {
		return r.Serves(policy), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// versionsOf collects the versions of a policy while it is watched.
func versionsOf(t *testing.T, plane *kube.ControlPlane, name string, during time.Duration) []string {
	t.Helper()
	var versions []string
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if v := stored(t, plane, name).ResourceVersion; !slices.Contains(versions, v) {
			versions = append(versions, v)
		}
	}
	return versions
}

// lose removes a status, as a restore from a backup does.
func lose(t *testing.T, plane *kube.ControlPlane, name string) {
	t.Helper()
	_, err := evps(t, plane).Patch(t.Context(), name, types.MergePatchType, []byte(`{"status":null}`), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheShippedSamplesAreAllApplied holds the list of samples to the directory.
func TestTheShippedSamplesAreAllApplied(t *testing.T) {
	samples, err := filepath.Glob(filepath.Join("..", "..", "..", "config", "samples", "policies", "*.yaml"))
	if err != nil || len(samples) != 4 {
		t.Errorf("%d samples (%v); extend the table in testSamples", len(samples), err)
	}
}
