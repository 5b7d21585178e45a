package callers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

var testHooks = hooks{"evictions.evictgate.dev": "/validate-eviction", "policies.evictgate.dev": "/validate-evictionpolicy"}

// server is an API server with the two objects, which remembers how they were.
type server struct {
	mu             sync.Mutex
	version        int
	configurations []*admissionv1.ValidatingWebhookConfiguration // the newest last
	secrets        []*corev1.Secret                              // nil when there was none
	patches        int
}

func newServer() *server {
	s := new(server)
	c := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "evictgate", UID: "u"}}
	for name, path := range testHooks {
		c.Webhooks = append(c.Webhooks, admissionv1.ValidatingWebhook{Name: name, ClientConfig: admissionv1.WebhookClientConfig{
			Service: &admissionv1.ServiceReference{Namespace: "evictgate", Name: "evictgate", Path: &path}, CABundle: []byte("ca"),
		}})
	}
	other := "/validate-eviction"
	c.Webhooks = append(c.Webhooks, admissionv1.ValidatingWebhook{Name: "foreign.example", ClientConfig: admissionv1.WebhookClientConfig{
		Service: &admissionv1.ServiceReference{Namespace: "evictgate", Name: "evictgate", Path: &other},
	}})
	s.secrets = []*corev1.Secret{nil}
	s.put(c)
	return s
}

func (s *server) put(c *admissionv1.ValidatingWebhookConfiguration) {
	s.version++
	c.ResourceVersion = strconv.Itoa(s.version)
	s.configurations = append(s.configurations, c)
}

func (s *server) latest() *admissionv1.ValidatingWebhookConfiguration {
	return s.configurations[len(s.configurations)-1].DeepCopy()
}

// reset puts the plain path back, as a tool does that applies the manifests again.
func (s *server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.latest()
	for i := range c.Webhooks {
		if plain, ok := testHooks[c.Webhooks[i].Name]; ok {
			c.Webhooks[i].ClientConfig.Service.Path = &plain
		}
	}
	s.put(c)
}

var gr = schema.GroupResource{Resource: "objects"}

func (s *server) configuration(context.Context) (*admissionv1.ValidatingWebhookConfiguration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest(), nil
}

func (s *server) patch(_ context.Context, raw []byte) (*admissionv1.ValidatingWebhookConfiguration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.latest()
	old, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(old, raw, was)
	if err != nil {
		return nil, err
	}
	var c admissionv1.ValidatingWebhookConfiguration
	if err := json.Unmarshal(merged, &c); err != nil {
		return nil, err
	}
	if c.ResourceVersion != was.ResourceVersion || c.UID != was.UID {
		return nil, apierrors.NewConflict(gr, c.Name, errors.New("changed"))
	}
	s.patches++
	s.put(&c)
	return s.latest(), nil
}

func (s *server) secret(context.Context) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.secrets[len(s.secrets)-1]; last != nil {
		return last.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(gr, "evictgate-path")
}

func (s *server) create(_ context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[len(s.secrets)-1] != nil {
		return nil, apierrors.NewAlreadyExists(gr, secret.Name)
	}
	return s.keep(secret), nil
}

func (s *server) update(_ context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.secrets[len(s.secrets)-1]
	if last == nil {
		return nil, apierrors.NewNotFound(gr, secret.Name)
	}
	if last.ResourceVersion != secret.ResourceVersion {
		return nil, apierrors.NewConflict(gr, secret.Name, errors.New("changed"))
	}
	return s.keep(secret), nil
}

func (s *server) keep(secret *corev1.Secret) *corev1.Secret {
	kept := secret.DeepCopy()
	s.version++
	kept.ResourceVersion = strconv.Itoa(s.version)
	s.secrets = append(s.secrets, kept)
	return kept.DeepCopy()
}

// reached is the server as a replica reaches it: each call of an attempt waits until it is let through, and writes
// may be lost.
type reached struct {
	*server
	at, let chan struct{}
	lose    func() (before, after bool)
}

var errLost = errors.New("the connection was lost")

// review marks the context of a review, whose calls are not held up.
type review struct{}

func (r reached) pass(ctx context.Context) {
	if ctx.Value(review{}) == nil {
		r.at <- struct{}{}
		<-r.let
	}
}

func (r reached) configuration(ctx context.Context) (*admissionv1.ValidatingWebhookConfiguration, error) {
	r.pass(ctx)
	return r.server.configuration(ctx)
}

func (r reached) secret(ctx context.Context) (*corev1.Secret, error) {
	r.pass(ctx)
	return r.server.secret(ctx)
}

func (r reached) patch(ctx context.Context, raw []byte) (*admissionv1.ValidatingWebhookConfiguration, error) {
	return lossy(ctx, r, func() (*admissionv1.ValidatingWebhookConfiguration, error) { return r.server.patch(ctx, raw) })
}

func (r reached) create(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	return lossy(ctx, r, func() (*corev1.Secret, error) { return r.server.create(ctx, s) })
}

func (r reached) update(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	return lossy(ctx, r, func() (*corev1.Secret, error) { return r.server.update(ctx, s) })
}

func lossy[T any](ctx context.Context, r reached, write func() (*T, error)) (*T, error) {
	r.pass(ctx)
	before, after := r.lose()
	if before {
		return nil, errLost
	}
	done, err := write()
	if after {
		return nil, errLost
	}
	return done, err
}

// replica is a Paths whose attempts go on one call at a time.
type replica struct {
	*Paths
	at, let chan struct{}
	done    chan struct{} // closed when its attempt is over; nil when there is none
	// configurations and secrets are how much of the server's past its watches have shown.
	configurations, secrets int
}

// world is three replicas before one server, at a time that is made up.
type world struct {
	t        *testing.T
	random   *rand.Rand
	server   *server
	replicas []*replica
	now      time.Time
	lossy    bool
	// calls are the secrets that some API server may call by, and until when.
	calls map[string]time.Time
	// reviews and rotations count what happened.
	reviews, rotations int
	last               string
	// deleted is when the Secret was.
	deleted time.Time
}

// serverLag is how long an API server goes on to call as the configuration said before.
const serverLag = 5 * time.Second

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), server: newServer(), lossy: true,
		now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC), calls: map[string]time.Time{},
	}
	for range 3 {
		w.replicas = append(w.replicas, w.start())
	}
	return w
}

func (w *world) start() *replica {
	r := &replica{at: make(chan struct{}), let: make(chan struct{})}
	r.Paths = newPaths(Options{
		Configuration: "evictgate", Hooks: testHooks, Namespace: "evictgate", Secret: "evictgate-path", Rotation: 2 * time.Hour, Log: slog.New(slog.DiscardHandler),
	}, true)
	r.Paths.now, r.started, r.again.every = func() time.Time { return w.now }, w.now, 0
	r.objects = reached{w.server, r.at, r.let, func() (bool, bool) {
		n := w.random.IntN(16)
		return w.lossy && n == 0, w.lossy && n == 1
	}}
	return r
}

// step begins an attempt of a replica, or has it go on up to its next call.
func (w *world) step(r *replica) {
	if r.done == nil {
		done := make(chan struct{})
		r.done = done
		go func() {
			defer close(done)
			r.attempt(context.Background())
		}()
	} else {
		r.let <- struct{}{}
	}
	select {
	case <-r.at:
	case <-r.done:
		r.done = nil
	}
	w.look()
}

// finish has all attempts end.
func (w *world) finish() {
	for _, r := range w.replicas {
		for r.done != nil {
			w.step(r)
		}
	}
}

// look notes by what the API servers may call from now on.
func (w *world) look() {
	c := w.server.latest()
	for _, secret := range testHooks.carried(c, "evictgate") {
		w.calls[secret] = w.now.Add(serverLag)
	}
	if one := common(testHooks.carried(c, "evictgate")); one != "" && one != w.last {
		w.last = one
		w.rotations++
	}
}

// pass lets time go by. An attempt does not last as long as the longer ones.
func (w *world) pass(d time.Duration) {
	if d > time.Second {
		w.finish()
	}
	w.now = w.now.Add(d)
	w.look()
}

// crash ends a replica, perhaps between two steps of the protocol, and starts one in its place that remembers nothing.
func (w *world) crash(i int) {
	if w.now.Sub(w.deleted) <= serverLag { // who deletes the Secret is asked not to restart replicas meanwhile
		return
	}
	for r := w.replicas[i]; r.done != nil; {
		w.step(r)
	}
	w.replicas[i] = w.start()
}

// watch shows a replica more of the past, in its order.
func (w *world) watch(r *replica) {
	if n := len(w.server.configurations) - r.configurations; n > 0 {
		r.configurations += 1 + w.random.IntN(n)
		r.seeConfiguration(w.server.configurations[r.configurations-1].DeepCopy(), false)
	}
	if n := len(w.server.secrets) - r.secrets; n > 0 {
		r.secrets += 1 + w.random.IntN(n)
		r.seeSecret(w.server.secrets[r.secrets-1])
	}
}

// review has every replica asked by each secret that an API server may call by.
func (w *world) review() {
	w.t.Helper()
	for secret, until := range w.calls {
		if w.now.After(until) {
			delete(w.calls, secret)
			continue
		}
		for i, r := range w.replicas {
			request := httptest.NewRequest(http.MethodPost, "/validate-eviction/"+secret, nil)
			request = request.WithContext(context.WithValue(request.Context(), review{}, true))
			w.reviews++
			if known := r.Known(request); known != (secret != "") {
				w.t.Fatalf("%v: replica %d knows a review by %q: %v; the Secret holds %+v, the configuration %q",
					w.now, i, secret, known, stateOf(w.server.secrets[len(w.server.secrets)-1]), testHooks.carried(w.server.latest(), ""))
			}
		}
	}
}

// act does something of what happens.
func (w *world) act() {
	i := w.random.IntN(len(w.replicas))
	switch n := w.random.IntN(100); {
	case n < 60:
		w.step(w.replicas[i])
	case n < 75:
		w.watch(w.replicas[i])
	case n < 94:
		w.pass([]time.Duration{time.Second, 2 * time.Second, 7 * time.Second, 31 * time.Second, 10 * time.Minute, 2 * time.Hour}[w.random.IntN(6)])
	case n < 97:
		w.crash(i)
	case n < 99:
		w.server.reset()
		w.look()
	default:
		w.finish()
		w.server.secrets = append(w.server.secrets, nil)
		w.deleted = w.now
		for stateOf(w.server.secrets[len(w.server.secrets)-1]) == (state{}) { // the watches tell of it at once
			w.step(w.replicas[i])
			w.finish()
		}
	}
	w.review()
}

// Whatever happens, a review by a path that an API server may call is known to every replica; and when nothing
// happens any more, the configuration holds the one secret that the Secret says.
func TestNoReviewIsEverUnknown(t *testing.T) {
	rotations, reviews := 0, 0
	for seed := range uint64(60) {
		w := newWorld(t, seed)
		for range 400 {
			w.act()
		}
		w.lossy = false
		for range 40 {
			for _, r := range w.replicas {
				w.step(r)
			}
			w.finish()
			w.pass(20 * time.Second)
			w.review()
		}
		s := stateOf(w.server.secrets[len(w.server.secrets)-1])
		if got := common(testHooks.carried(w.server.latest(), "evictgate")); !valid(got) || got != s.current || s.next != "" {
			t.Fatalf("seed %d: the configuration holds %q, the Secret %+v", seed, testHooks.carried(w.server.latest(), ""), s)
		}
		if foreign := w.server.latest().Webhooks[2].ClientConfig; *foreign.Service.Path != "/validate-eviction" {
			t.Fatalf("a webhook that is not ours was changed: %s", *foreign.Service.Path)
		}
		for _, r := range w.replicas {
			if !r.Established() || r.Ready(nil) != nil {
				t.Fatalf("seed %d: established: %v, ready: %v", seed, r.Established(), r.Ready(nil))
			}
		}
		rotations, reviews = rotations+w.rotations, reviews+w.reviews
	}
	t.Logf("%d rotations, %d reviews", rotations, reviews)
	if rotations < 300 || reviews < 10_000 {
		t.Errorf("only %d rotations and %d reviews: the test does not test much", rotations, reviews)
	}
}
