package callers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
)

const (
	// settled is how long the configuration must have held a secret until whoever calls without one is taken for
	// somebody else: API servers may learn of it later than we do. A replica waits for the half of it to be ready.
	settled = 4 * time.Second
	// hinderedAfter is how long a replica waits, not ready, for a secret that cannot be written.
	hinderedAfter = 30 * time.Second
)

// Options say how the API server is known by its path.
type Options struct {
	Client kubernetes.Interface
	// Configuration is the name of the ValidatingWebhookConfiguration, Hooks are our webhooks in it by their names,
	// with their paths without a secret.
	Configuration string
	Hooks         map[string]string
	// Namespace is that of the installation: webhooks that call a Service of another one are left alone. Empty is any.
	Namespace string
	// Secret is the name of the Secret in which the replicas share what they agree on, and Rotation how long each
	// secret is used; for Keep alone.
	Secret   string
	Rotation time.Duration
	// Older says which replica knows no secret; empty when there is none. Nil is never one. It is asked once Synced
	// is true, or nil.
	Older  func() string
	Synced func() bool
	Log    *slog.Logger
}

// Paths knows the API server by the path it calls. It is safe for concurrent use, and a manager.Runnable.
type Paths struct {
	o       Options
	hooks   hooks
	objects objects
	keeps   bool
	now     func() time.Time
	started time.Time

	accepted accepted
	again    refresher
	changed  chan struct{} // holds one token when something is to be looked at

	mu            sync.Mutex
	configuration *admissionv1.ValidatingWebhookConfiguration // as last seen; nil when there is none
	read          bool                                        // whether configuration was read at all
	state         state
	before        string // the last current secret that the Secret held
	// carriedAt is since when the configuration holds a secret in all our webhooks; zero when it does not. At first
	// sight it is long ago.
	carriedAt time.Time
	// hindered is why the configuration cannot be brought into line, waits why that is not tried yet.
	hindered, waits error
	ready           bool   // it was so once
	told            string // what was logged last
	changes         *rate.Limiter
}

// Follow knows the API server by the secret that somebody else writes into the configuration.
func Follow(o Options) *Paths { return newPaths(o, false) }

// Keep makes the secret, and keeps it in the configuration.
func Keep(o Options) *Paths { return newPaths(o, true) }

func newPaths(o Options, keeps bool) *Paths {
	return &Paths{
		o: o, hooks: o.Hooks, keeps: keeps, now: time.Now, started: time.Now(), changed: make(chan struct{}, 1),
		changes: rate.NewLimiter(rate.Every(changeEvery), changesAtOnce),
		objects: cluster{client: o.Client, name: o.Configuration, namespace: o.Namespace, secretName: o.Secret},
		again:   newRefresher(),
	}
}

// NeedLeaderElection says that every replica does this for itself.
func (p *Paths) NeedLeaderElection() bool { return false }

// Known reports whether a request came by a path that the API server is told to call. A secret that is not known
// may be new: configuration and Secret are read anew for it, as often as the package comment says.
func (p *Paths) Known(r *http.Request) bool {
	secret := secretOf(r.URL.Path)
	switch {
	case secret == "":
		return false
	case p.accepted.has(secret, p.now()):
		return true
	}
	p.again.do(r.Context(), p.refresh)
	return p.accepted.has(secret, p.now())
}

// Established reports whether the configuration has held a secret for so long that the API server calls by it.
func (p *Paths) Established() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.carriedAt.IsZero() && p.now().Sub(p.carriedAt) >= settled
}

// Ready is a healthz.Checker. A replica that keeps the secret waits for it to be in the configuration, unless it
// cannot be brought there: then evictions are still decided, which is better than not at all.
func (p *Paths) Ready(*http.Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case p.ready: // whatever becomes of the path: a replica that is not ready decides nothing at all
		return nil
	case !p.keeps || p.hindered != nil || p.waits != nil || now.Sub(p.started) >= hinderedAfter:
		p.ready = true
		return nil
	case p.carriedAt.IsZero():
		return fmt.Errorf("waits for the secret path in %s", p.subject())
	case now.Sub(p.carriedAt) < settled/2:
		return fmt.Errorf("waits for the API server to learn of the secret path in %s", p.subject())
	}
	p.ready = true
	return nil
}

func (p *Paths) subject() string { return "ValidatingWebhookConfiguration " + p.o.Configuration }

// seeConfiguration takes the configuration as it is now; first is when it was so before we looked.
func (p *Paths) seeConfiguration(c *admissionv1.ValidatingWebhookConfiguration, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = first || !p.read
	p.configuration, p.read = c, true
	carried := p.hooks.carried(c, p.o.Namespace)
	switch {
	case len(carried) == 0 || slices.Contains(carried, ""):
		p.carriedAt = time.Time{}
	case p.carriedAt.IsZero() && first:
		p.carriedAt = p.now().Add(-settled)
	case p.carriedAt.IsZero():
		p.carriedAt = p.now()
	}
	p.accept()
}

// seeSecret takes the Secret as it is now; nil when there is none.
func (p *Paths) seeSecret(s *corev1.Secret) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = stateOf(s)
	p.before = cmp.Or(p.state.current, p.before)
	p.accept()
}

// accept brings what is accepted into line with what was seen; p.mu is held.
func (p *Paths) accept() {
	live := append(p.hooks.carried(p.configuration, p.o.Namespace), p.state.current, p.state.next)
	p.accepted.set(live, map[string]time.Time{p.state.previous: p.state.since.Add(validFor)}, p.now())
	p.look()
}

// look has Start look at what there is to do.
func (p *Paths) look() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Look is for whoever knows that Older has changed its answer.
func (p *Paths) Look() { p.look() }

// refresh reads both objects anew.
func (p *Paths) refresh(ctx context.Context) error {
	c, err := p.objects.configuration(ctx)
	if err != nil {
		return err
	}
	p.seeConfiguration(c, false)
	if !p.keeps {
		return nil
	}
	s, err := p.objects.secret(ctx)
	if apierrors.IsNotFound(err) {
		s, err = nil, nil
	}
	if err == nil {
		p.seeSecret(s)
	}
	return err
}

// tell logs what it did not log last.
func (p *Paths) tell(level slog.Level, text string, args ...any) {
	line := fmt.Sprint(text, args)
	p.mu.Lock()
	same := line == p.told
	p.told = line
	p.mu.Unlock()
	if !same {
		p.o.Log.Log(context.Background(), level, text, args...)
	}
}

// consequence is what it means when the API server cannot be known.
const consequence = "evictions are decided, but not counted, and holds, overrides, Events and live reads are off"

var errNoHooks = errors.New("none of its webhooks calls us: apply it again")
