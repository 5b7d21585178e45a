package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// policy decides without touching a pod: the load can go on for ever.
const policy = `package eviction.certificates

deny contains {"reason": "this pod stays", "detail": {}} if input.pod.metadata.name == "stays"
`

// installation is a namespace with a pod that may go and one that stays, and replicas of evictgate that
// decide about them, called as a Service.
type installation struct {
	*gate.Group
	plane     *kube.ControlPlane
	namespace string
	// service is the Service's name in the namespace default, and the configuration's.
	service string
	// through are clients of the API servers that evictions are sent to in turn.
	through []*kubernetes.Clientset
	// shown is what the test's own calls show where the webhook demands a certificate.
	shown []tls.Certificate
}

// host is the name that the API server demands of the certificate.
func (in *installation) host() string { return in.service + ".default.svc" }

func createPods(t *testing.T, plane *kube.ControlPlane, namespace string) {
	t.Helper()
	for _, name := range []string{"goes", "stays"} {
		_, err := plane.Client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}}},
		}, metav1.CreateOptions{})
		check(t, err)
		check(t, plane.SetPodReady(t.Context(), namespace, name, true)) // a Pending pod may always go
	}
}

// evict is a dry run for the pod that may go, so that it stays, too.
func (in *installation) evict(ctx context.Context, client *kubernetes.Clientset, pod string) error {
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: in.namespace, Name: pod}}
	if pod == "goes" {
		e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	}
	return client.PolicyV1().Evictions(in.namespace).Evict(ctx, e)
}

// decided says whether an eviction got the decision that it should.
func decided(pod string, err error) error {
	switch {
	case pod == "goes":
		return err
	case err == nil:
		return fmt.Errorf("eviction of %s admitted", pod)
	case !strings.Contains(err.Error(), `admission webhook "evictions.evictgate.dev" denied the request`):
		return err
	}
	return nil
}

const (
	clients    = 4
	evictEvery = 40 * time.Millisecond
	// dialEvery is how often the address is dialled beside: the API server keeps its connections, which
	// would hide a certificate that it does not trust.
	dialEvery = 20 * time.Millisecond
)

// load are constant evictions by several clients, and handshakes beside.
type load struct {
	stop    func()
	running sync.WaitGroup

	mu                          sync.Mutex
	began                       time.Time
	evictions, handshakes       int
	failedEvictions, failedDial int
	// served are the certificates that were seen, by serial number, and cas what signed them.
	served, cas map[string]bool
}

func (in *installation) load(t *testing.T) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, began: time.Now(), served: map[string]bool{}, cas: map[string]bool{}}
	for i := range clients {
		l.running.Go(func() {
			l.each(ctx, evictEvery, func(n int) { l.evicted(t, in.one(ctx, n+i)) })
		})
	}
	l.running.Go(func() {
		l.each(ctx, dialEvery, func(int) {
			leaf, err := in.dial(ctx)
			if ctx.Err() == nil {
				l.dialled(t, leaf, err)
			}
		})
	})
	t.Cleanup(l.end)
	return l
}

func (in *installation) one(ctx context.Context, n int) error {
	pod := []string{"goes", "stays"}[n%2]
	return decided(pod, in.evict(context.WithoutCancel(ctx), in.through[n/2%len(in.through)], pod))
}

func (l *load) each(ctx context.Context, every time.Duration, do func(n int)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(n)
		}
	}
}

func (l *load) evicted(t *testing.T, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evictions++
	if err != nil {
		if l.failedEvictions++; l.failedEvictions <= 3 {
			t.Errorf("eviction after %s: %v", time.Since(l.began).Round(time.Millisecond), err)
		}
	}
}

func (l *load) dialled(t *testing.T, leaf *x509.Certificate, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshakes++
	if err != nil {
		if l.failedDial++; l.failedDial <= 3 {
			t.Errorf("handshake after %s: %v", time.Since(l.began).Round(time.Millisecond), err)
		}
		return
	}
	l.served[leaf.SerialNumber.String()], l.cas[string(leaf.AuthorityKeyId)] = true, true
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// report ends the load, when there was enough of it, and says what came. A busy machine takes longer for as much.
func (l *load) report(t *testing.T, over string) {
	t.Helper()
	took := time.Since(l.began)
	// Some are left out anyway, most of all of the handshakes, before which the caBundle is read.
	evictions, handshakes := int(clients*took/evictEvery/4), int(took/dialEvery/10)
	l.until(t, fmt.Sprintf("a load of %d evictions and %d handshakes", evictions, handshakes), func() bool { return l.evictions >= evictions && l.handshakes >= handshakes })
	took = time.Since(l.began)
	l.end()
	t.Logf("%s: %d evictions in %s, %d failed; %d handshakes, %d failed; %d certificates of %d CAs",
		over, l.evictions, took.Round(time.Second), l.failedEvictions, l.handshakes, l.failedDial, len(l.served), len(l.cas))
}

// until lets the load go on until enough of it came, and fails with what says when it does not come.
func (l *load) until(t *testing.T, what string, enough func() bool) {
	t.Helper()
	err := kube.Wait(t.Context(), what, func(context.Context) (bool, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return enough(), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// dial makes a handshake as the API server does, with the caBundle that it has.
func (in *installation) dial(ctx context.Context) (*x509.Certificate, error) {
	c, err := in.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, in.service, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Webhooks[0].ClientConfig.CABundle)
	return handshake(ctx, in.Balancer.Address, &tls.Config{RootCAs: roots, ServerName: in.host(), Certificates: in.shown})
}

func handshake(ctx context.Context, address string, config *tls.Config) (*x509.Certificate, error) {
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// leaves are the certificates that the replicas serve now, each replica asked for itself.
func (in *installation) leaves(t *testing.T) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for _, r := range in.Running() {
		leaf, err := handshake(t.Context(), r.Listen, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looked at, not trusted
		check(t, err)
		all = append(all, leaf)
	}
	return all
}

func serials(leaves []*x509.Certificate) []string {
	seen := map[string]bool{}
	for _, leaf := range leaves {
		seen[leaf.SerialNumber.String()] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func authorities(leaves []*x509.Certificate) []string {
	seen := map[string]bool{}
	for _, leaf := range leaves {
		seen[string(leaf.AuthorityKeyId)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// replaced waits until no replica serves what of told before.
func (in *installation) replaced(t *testing.T, what string, of func([]*x509.Certificate) []string, change func()) {
	t.Helper()
	before := of(in.leaves(t))
	began := time.Now()
	change()
	check(t, kube.Wait(t.Context(), what+" on every replica", func(context.Context) (bool, error) {
		time.Sleep(100 * time.Millisecond)
		now := of(in.leaves(t))
		return !slices.ContainsFunc(now, func(s string) bool { return slices.Contains(before, s) }), nil
	}))
	t.Logf("%s on every replica after %s", what, time.Since(began).Round(100*time.Millisecond))
}
