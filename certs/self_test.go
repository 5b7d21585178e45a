package certs_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	admissionreview "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const (
	secretName = "gate-ca"
	inject     = "cert-manager.io/inject-ca-from-secret"
	// patience bounds every wait of these tests.
	patience = 30 * time.Second
)

// cluster is a control plane and one installation in it: a namespace, a
// webhook configuration and an identity that may do what SelfRules say.
type cluster struct {
	*kube.ControlPlane
	namespace string
	config    *rest.Config
}

// startControlPlane skips by name what is not built.
func startControlPlane(t *testing.T) *kube.ControlPlane {
	t.Helper()
	kube.Need(t)
	ctrl.SetLogger(logr.Discard())
	control, err := kube.Start(t.Context(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := control.Stop(); err != nil {
			t.Error(err)
		}
	})
	return control
}

// install makes the namespace, a pod to evict and the identity.
func install(t *testing.T, control *kube.ControlPlane) *cluster {
	t.Helper()
	namespace, err := control.Namespace(t.Context(), "gate")
	check(t, err)
	c := &cluster{ControlPlane: control, namespace: namespace, config: rest.CopyConfig(control.Config)}
	c.config.Impersonate = rest.ImpersonationConfig{UserName: "gate-" + namespace}
	c.allow(t)
	_, err = c.Client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}, metav1.CreateOptions{})
	check(t, err)
	return c
}

// allow grants exactly SelfRules, so that every test here proves them enough.
func (c *cluster) allow(t *testing.T) {
	t.Helper()
	ctx, rbac := t.Context(), c.Client.RbacV1()
	namespaced, wide := certs.SelfRules(secretName, c.namespace)
	who := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: c.config.Impersonate.UserName}}
	meta := metav1.ObjectMeta{Name: c.namespace}
	_, err := rbac.Roles(c.namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: namespaced}, metav1.CreateOptions{})
	check(t, err)
	_, err = rbac.RoleBindings(c.namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: who,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: c.namespace}}, metav1.CreateOptions{})
	check(t, err)
	_, err = rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: wide}, metav1.CreateOptions{})
	check(t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: who,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: c.namespace}}, metav1.CreateOptions{})
	check(t, err)
}

// configure points webhooks, named after the namespace, at the addresses.
// Without annotation it is the mistake that Ready has to name.
func (c *cluster) configure(t *testing.T, annotated bool, addresses ...string) {
	t.Helper()
	fail, none, seconds := admissionv1.Fail, admissionv1.SideEffectClassNone, int32(5)
	scope := admissionv1.NamespacedScope
	conf := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}
	if annotated {
		conf.Annotations = map[string]string{inject: c.namespace + "/" + secretName}
	}
	for i, address := range addresses {
		url := "https://" + address + "/validate-eviction"
		conf.Webhooks = append(conf.Webhooks, admissionv1.ValidatingWebhook{
			Name:         fmt.Sprintf("w%d.evictgate.dev", i),
			ClientConfig: admissionv1.WebhookClientConfig{URL: &url},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/eviction"}, Scope: &scope},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": c.namespace}},
			FailurePolicy:           &fail,
			SideEffects:             &none,
			TimeoutSeconds:          &seconds,
			AdmissionReviewVersions: []string{"v1"},
		})
	}
	api := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err := api.Create(t.Context(), conf, metav1.CreateOptions{})
	check(t, err)
	t.Cleanup(func() { _ = api.Delete(context.Background(), c.namespace, metav1.DeleteOptions{}) })
}

// replica is one source behind one TLS server on 127.0.0.1 that admits all.
type replica struct {
	*certs.SelfSource
	address string // localhost:PORT, the only name its certificate has
	served  atomic.Int64
	stop    func()
}

// start runs a replica until the test ends or stop is called. Connections are
// never kept: every call then is a handshake with the certificate of the
// moment, while a kept one would hide a wrong certificate.
func (c *cluster) start(t *testing.T, tune func(*certs.SelfOptions)) *replica {
	t.Helper()
	o := certs.SelfOptions{
		RESTConfig:           c.config,
		SecretNamespace:      c.namespace,
		SecretName:           secretName,
		WebhookConfiguration: c.namespace,
		DNSNames:             []string{"localhost"},
		Settle:               500 * time.Millisecond,
		Logger:               logr.Discard(),
	}
	if testing.Verbose() {
		o.Logger = testr.New(t)
	}
	if tune != nil {
		tune(&o)
	}
	s, err := certs.Self(o)
	check(t, err)
	r := &replica{SelfSource: s}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	server := r.serve(t)
	r.stop = sync.OnceFunc(func() {
		server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("source ended with: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *replica) serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var review admissionreview.AdmissionReview
		if err := json.NewDecoder(req.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "not a review", http.StatusBadRequest)
			return
		}
		r.served.Add(1)
		review.Response = &admissionreview.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	server.Config.SetKeepAlivesEnabled(false)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	// httptest would put a certificate of its own first.
	server.Listener = tls.NewListener(server.Listener, &tls.Config{GetCertificate: r.GetCertificate})
	server.Start()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	check(t, err)
	r.address = "localhost:" + port
	return server
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ready waits for Ready and returns how long that took.
func (r *replica) ready(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	wait(t, "ready", func() error { return r.Ready(nil) })
	return time.Since(began)
}

// notReady waits until Ready fails with an error holding fragment.
func (r *replica) notReady(t *testing.T, fragment string) {
	t.Helper()
	saying(t, r, fragment)
}

func saying(t *testing.T, source interface{ Ready(*http.Request) error }, fragment string) {
	t.Helper()
	wait(t, "an error about "+fragment, func() error {
		if err := source.Ready(nil); err == nil || !strings.Contains(err.Error(), fragment) {
			return fmt.Errorf("Ready says %w", err)
		}
		return nil
	})
}

func wait(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %s: %v", what, patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *replica) serial(t *testing.T) string {
	t.Helper()
	cert, err := r.GetCertificate(nil)
	check(t, err)
	return cert.Leaf.SerialNumber.String()
}

// underOf is the identity of the CA that signed what r serves.
func (r *replica) underOf(t *testing.T) string {
	t.Helper()
	cert, err := r.GetCertificate(nil)
	check(t, err)
	return string(cert.Leaf.AuthorityKeyId)
}

// evict is one dry run of an eviction: it changes nothing, but is admitted as
// a real one is.
func (c *cluster) evict(ctx context.Context, client kubernetes.Interface) error {
	return client.CoreV1().Pods(c.namespace).EvictV1(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: c.namespace, Name: "web"},
		DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
	})
}

// load evicts without pause from several clients until total is asked for.
type load struct {
	calls, failed atomic.Int64
	stop          chan struct{}
	running       sync.WaitGroup
	began         time.Time
}

func (c *cluster) load(t *testing.T) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), began: time.Now()}
	for range 4 {
		l.running.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.calls.Add(1)
				if err := c.evict(context.Background(), c.Client); err != nil {
					if l.failed.Add(1) <= 3 {
						t.Logf("call failed: %v", err)
					}
				}
			}
		})
	}
	t.Cleanup(l.halt)
	return l
}

func (l *load) halt() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.running.Wait()
}

// total ends the load; one failed call fails the test.
func (l *load) total(t *testing.T, over string, replicas ...*replica) {
	t.Helper()
	took := time.Since(l.began)
	l.halt()
	var served int64
	for _, r := range replicas {
		served += r.served.Load()
	}
	t.Logf("%d calls in %s (%.0f/s), %d failed, over %s; handlers saw %d",
		l.calls.Load(), took.Round(time.Second), float64(l.calls.Load())/took.Seconds(), l.failed.Load(), over, served)
	if l.failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", l.failed.Load(), l.calls.Load())
	}
	if served == 0 {
		t.Error("no call reached a handler")
	}
}

// rotate deletes the Secret and waits until every replica serves under the new
// CA.
func (c *cluster) rotate(t *testing.T, replicas ...*replica) {
	t.Helper()
	before := make([]string, len(replicas))
	for i, r := range replicas {
		before[i] = r.underOf(t)
	}
	check(t, c.Client.CoreV1().Secrets(c.namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
	for i, r := range replicas {
		wait(t, fmt.Sprintf("new CA on replica %d", i), func() error {
			if r.underOf(t) == before[i] {
				return fmt.Errorf("still the old one")
			}
			return nil
		})
	}
}

// balance accepts on 127.0.0.1 and hands each connection to the next of the
// targets, as a Service does to its endpoints.
type balancer struct {
	address string
	targets atomic.Pointer[[]string]
}

func balance(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	b := &balancer{address: "localhost:" + port}
	go func() {
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			targets := *b.targets.Load()
			go pipe(conn, targets[i%len(targets)])
		}
	}()
	return b
}

func (b *balancer) to(replicas ...*replica) {
	var targets []string
	for _, r := range replicas {
		targets = append(targets, r.address)
	}
	b.targets.Store(&targets)
}

func pipe(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}

func TestCluster(t *testing.T) {
	control := startControlPlane(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"from nothing, each mistake is named", fromNothing},
		{"a rotated CA fails no call with one replica", rotateOne},
		{"a rotated CA fails no call with three replicas behind three webhooks", rotateThreeHooks},
		{"a rotated CA fails no call with three replicas behind a balancer", rotateBalanced},
		{"replicas come and go while the CA rotates", rotateRolling},
		{"leaves and CA renew by age without a failed call", renewByAge},
		{"an emptied caBundle is filled again", refill},
		{"files wait for a webhook configuration that trusts them", filesWait},
		{"a source outlives an API server that is away", outlive},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, install(t, control)) })
	}
}

func fromNothing(t *testing.T, c *cluster) {
	r := c.start(t, nil)
	if err := r.Ready(nil); err == nil {
		t.Error("ready at once")
	}
	if _, err := r.GetCertificate(nil); err == nil {
		t.Error("a certificate at once")
	}
	r.notReady(t, "ValidatingWebhookConfiguration "+c.namespace+" does not exist: create it")
	c.configure(t, false, r.address)
	r.notReady(t, "lacks annotation "+inject+"="+c.namespace+"/"+secretName)
	if err := c.evict(t.Context(), c.Client); err == nil {
		t.Error("a call without a caBundle succeeded")
	}
	c.annotate(t)
	t.Logf("ready %s after the annotation", r.ready(t).Round(time.Millisecond))
	check(t, c.evict(t.Context(), c.Client))
	if got := r.served.Load(); got != 1 {
		t.Errorf("the handler saw %d calls, want 1", got)
	}

	began := time.Now()
	second := c.start(t, nil)
	second.ready(t)
	t.Logf("a second replica ready after %s", time.Since(began).Round(time.Millisecond))
	if second.underOf(t) != r.underOf(t) {
		t.Error("two replicas, two CAs")
	}
}

func (c *cluster) annotate(t *testing.T) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, inject, c.namespace+"/"+secretName)
	_, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Patch(t.Context(), c.namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	check(t, err)
}

const rotations = 4

func rotateOne(t *testing.T, c *cluster) {
	r := c.start(t, nil)
	c.configure(t, true, r.address)
	t.Logf("ready after %s", r.ready(t).Round(time.Millisecond))
	l := c.load(t)
	for range rotations {
		c.rotate(t, r)
		time.Sleep(200 * time.Millisecond)
	}
	l.total(t, fmt.Sprintf("%d rotations", rotations), r)
}

func (c *cluster) three(t *testing.T) []*replica {
	t.Helper()
	var replicas []*replica
	for range 3 {
		replicas = append(replicas, c.start(t, nil))
	}
	return replicas
}

func allReady(t *testing.T, replicas ...*replica) {
	t.Helper()
	for _, r := range replicas {
		r.ready(t)
	}
}

func rotateThreeHooks(t *testing.T, c *cluster) {
	r := c.three(t)
	c.configure(t, true, r[0].address, r[1].address, r[2].address)
	allReady(t, r...)
	l := c.load(t)
	for range rotations {
		c.rotate(t, r...)
		time.Sleep(200 * time.Millisecond)
	}
	l.total(t, fmt.Sprintf("%d rotations, 3 webhooks a call", rotations), r...)
}

func rotateBalanced(t *testing.T, c *cluster) {
	b, r := balance(t), c.three(t)
	b.to(r...)
	c.configure(t, true, b.address)
	allReady(t, r...)
	l := c.load(t)
	for range rotations {
		c.rotate(t, r...)
		time.Sleep(200 * time.Millisecond)
	}
	l.total(t, fmt.Sprintf("%d rotations", rotations), r...)
}

// rotateRolling replaces one of three replicas while the CA rotates: the new
// one gets calls when it says Ready.
func rotateRolling(t *testing.T, c *cluster) {
	b, r := balance(t), c.three(t)
	b.to(r...)
	c.configure(t, true, b.address)
	allReady(t, r...)
	all := append([]*replica(nil), r...)
	l := c.load(t)
	for range rotations {
		b.to(r[1:]...)
		time.Sleep(300 * time.Millisecond) // let its calls end
		r[0].stop()
		check(t, c.Client.CoreV1().Secrets(c.namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
		fresh := c.start(t, nil)
		fresh.ready(t)
		r = append(r[1:], fresh)
		all = append(all, fresh)
		b.to(r...)
	}
	l.total(t, fmt.Sprintf("%d rotations with a replaced replica each", rotations), all...)
}

// renewByAge lets time do what rotateOne does by hand. cert-manager looks at
// the age of its CA every 10 s only, so a CA that is due after 9 s and expires
// after 13.5 s is replaced in between.
func renewByAge(t *testing.T, c *cluster) {
	r := c.start(t, func(o *certs.SelfOptions) {
		o.CADuration, o.LeafDuration, o.Settle = 13500*time.Millisecond, 3*time.Second, 300*time.Millisecond
	})
	c.configure(t, true, r.address)
	r.ready(t)
	leaves, cas := map[string]bool{}, map[string]bool{}
	l := c.load(t)
	for end := time.Now().Add(16 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		leaves[r.serial(t)], cas[r.underOf(t)] = true, true
		if err := r.Ready(nil); err != nil {
			t.Errorf("not ready: %v", err)
		}
	}
	if len(cas) < 2 || len(leaves) < 5 {
		t.Errorf("saw %d CAs and %d leaves, want at least 2 and 5", len(cas), len(leaves))
	}
	l.total(t, fmt.Sprintf("%d leaves of %d CAs", len(leaves), len(cas)), r)
}

func refill(t *testing.T, c *cluster) {
	r := c.start(t, nil)
	c.configure(t, true, r.address)
	r.ready(t)
	_, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(t.Context(), c.namespace,
		types.JSONPatchType, []byte(`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`), metav1.PatchOptions{})
	check(t, err)
	wait(t, "call after the caBundle was emptied", func() error { return c.evict(t.Context(), c.Client) })
	r.ready(t)
}

func outlive(t *testing.T, c *cluster) {
	r := c.start(t, nil)
	c.configure(t, true, r.address)
	r.ready(t)
	check(t, c.Kill(kube.APIServer))
	check(t, r.Ready(nil))
	late := c.start(t, nil)
	late.notReady(t, "Secret "+c.namespace+"/"+secretName+" not yet written: the API server must answer")
	check(t, c.Restart(t.Context(), kube.APIServer))
	check(t, r.Ready(nil))
	t.Logf("a replica started meanwhile was ready %s after the API server", late.ready(t).Round(time.Millisecond))
	l := c.load(t)
	c.rotate(t, r, late)
	l.total(t, "1 rotation after the API server came back", r)
}

func TestSelfRefusesOptionsThatCannotWork(t *testing.T) {
	good := certs.SelfOptions{
		RESTConfig: &rest.Config{Host: "https://localhost:1"}, SecretNamespace: "gate", SecretName: secretName,
		WebhookConfiguration: "gate", DNSNames: []string{"localhost"},
	}
	if _, err := certs.Self(good); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for want, spoil := range map[string]func(*certs.SelfOptions){
		"no RESTConfig":    func(o *certs.SelfOptions) { o.RESTConfig = nil },
		`not ""/"gate-ca"`: func(o *certs.SelfOptions) { o.SecretNamespace = "" },
		`not "gate"/""`:    func(o *certs.SelfOptions) { o.SecretName = "" },
		"no name of a ValidatingWebhookConfiguration":   func(o *certs.SelfOptions) { o.WebhookConfiguration = "" },
		"no DNS name and no IP address":                 func(o *certs.SelfOptions) { o.DNSNames = nil },
		"a leaf's life of 2h0m0s must be positive":      func(o *certs.SelfOptions) { o.LeafDuration, o.CADuration = 2*time.Hour, time.Hour },
		"a leaf's life of 168h0m0s must be positive":    func(o *certs.SelfOptions) { o.CADuration = time.Hour },
		"a leaf's life of -1h0m0s must be positive and": func(o *certs.SelfOptions) { o.LeafDuration = -time.Hour },
	} {
		t.Run(want, func(t *testing.T) {
			o := good
			spoil(&o)
			if _, err := certs.Self(o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
		})
	}
}
