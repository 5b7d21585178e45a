package callers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	toolscache "k8s.io/client-go/tools/cache"
)

const (
	// recheck is how long nothing is looked at without any event, again the pause after an attempt that failed.
	recheck, again = 10 * time.Minute, 5 * time.Second
	// oneAttempt bounds the calls of an attempt.
	oneAttempt = 10 * time.Second
	// unsynced is how long it is waited until the pods are known.
	unsynced = 200 * time.Millisecond
)

// Start follows the objects, and keeps the secret in the configuration if it is for that, until ctx ends, when it
// returns nil. What hinders it is logged, each thing once.
func (p *Paths) Start(ctx context.Context) error {
	if err := p.follow(ctx); err != nil {
		return fmt.Errorf("follow the secret path: %w", err)
	}
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-time.After(pause):
		}
		if p.keeps {
			pause = p.attempt(ctx)
		} else {
			pause = p.report()
		}
	}
}

// follow watches the objects, each alone.
func (p *Paths) follow(ctx context.Context) error {
	configurations := p.factory(p.o.Configuration)
	_, err := configurations.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer().AddEventHandler(
		handler(func(c *admissionv1.ValidatingWebhookConfiguration, first bool) { p.seeConfiguration(c, first) }))
	if err != nil {
		return err
	}
	configurations.StartWithContext(ctx)
	if !p.keeps {
		return nil
	}
	secrets := p.factory(p.o.Secret, informers.WithNamespace(p.o.Namespace))
	_, err = secrets.Core().V1().Secrets().Informer().AddEventHandler(handler(func(s *corev1.Secret, _ bool) { p.seeSecret(s) }))
	secrets.StartWithContext(ctx)
	return err
}

// factory makes informers that see one object only.
func (p *Paths) factory(name string, options ...informers.SharedInformerOption) informers.SharedInformerFactory {
	options = append(options, informers.WithTweakListOptions(func(l *metav1.ListOptions) {
		l.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}))
	return informers.NewSharedInformerFactoryWithOptions(p.o.Client, 0, options...)
}

// handler passes on each state of an object, nil when it is gone.
func handler[T any](see func(obj *T, first bool)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, first bool) {
			o, _ := obj.(*T)
			see(o, first)
		},
		UpdateFunc: func(_, obj any) {
			o, _ := obj.(*T)
			see(o, false)
		},
		DeleteFunc: func(any) { see(nil, false) },
	}
}

// report says what is so, each thing once, and when to look again.
func (p *Paths) report() time.Duration {
	p.mu.Lock()
	read := p.read
	p.mu.Unlock()
	switch {
	case p.carries():
		p.tellKnown()
	case read || p.now().Sub(p.started) >= hinderedAfter:
		p.tell(slog.LevelWarn, "the API server cannot be told from others who call: "+consequence+". Write a secret path into the webhook configuration, or demand client certificates by --client-ca: see docs/certificates.md",
			"configuration", p.o.Configuration)
	default:
		return again
	}
	return recheck
}

// carries reports whether the configuration holds a secret in all our webhooks.
func (p *Paths) carries() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.carriedAt.IsZero()
}

func (p *Paths) tellKnown() {
	p.tell(slog.LevelInfo, "the API server is known by its path", "configuration", p.o.Configuration)
}

// attempt does what is to be done, one step, and says when to look again.
func (p *Paths) attempt(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, oneAttempt)
	defer cancel()
	wait, err := p.settle(ctx)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) { // another replica was faster, or cainjector
		return 100*time.Millisecond + rand.N(400*time.Millisecond)
	}
	var held held
	p.mu.Lock()
	p.hindered, p.waits = nil, nil
	switch {
	case errors.As(err, &held):
		p.waits = err
	case apierrors.IsForbidden(err) || errors.Is(err, errNoHooks):
		p.hindered = err
	}
	p.mu.Unlock()
	switch {
	case err == nil:
		if p.carries() {
			p.tellKnown()
		}
		return wait
	case held != "":
		p.tell(slog.LevelInfo, "the API server cannot be told from others who call yet: "+consequence, "configuration", p.o.Configuration, "why", err.Error())
	default:
		p.tell(slog.LevelWarn, "the secret path is not kept in the webhook configuration: "+consequence+" while it is not there", "configuration", p.o.Configuration, "error", err.Error())
	}
	return again
}

// held is why the plain path is kept for now.
type held string

func (h held) Error() string { return string(h) }

// settle reads both objects, and writes what plan says. The configuration is read first: what the Secret says is
// then at least as new, and a patch fails when the configuration has changed since.
func (p *Paths) settle(ctx context.Context) (time.Duration, error) {
	if p.o.Synced != nil && !p.o.Synced() {
		return unsynced, nil
	}
	c, err := p.objects.configuration(ctx)
	if err != nil {
		return 0, fmt.Errorf("get the webhook configuration: %w", err)
	}
	p.seeConfiguration(c, false)
	carried := p.hooks.carried(c, p.o.Namespace)
	if len(carried) == 0 {
		return 0, errNoHooks
	}
	secret, err := p.objects.secret(ctx)
	if apierrors.IsNotFound(err) {
		secret, err = nil, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get Secret %s/%s: %w", p.o.Namespace, p.o.Secret, err)
	}
	p.seeSecret(secret)
	older := p.older()
	p.mu.Lock()
	before := p.before
	p.mu.Unlock()
	s := plan(stateOf(secret), surroundings{carried: carried, before: before, older: older != "", now: p.now(), rotation: p.o.Rotation, fresh: newSecret})
	switch {
	case s.write != nil:
		return time.Millisecond, p.write(ctx, secret, *s.write)
	case s.patch:
		if pause := p.pause(); pause > 0 && older == "" {
			return pause, nil
		}
		if err = p.repath(ctx, c, s.secret, slices.Contains(carried, "")); err != nil {
			return 0, err
		}
		s.wait = time.Millisecond
	}
	if older != "" {
		return s.wait, held(older)
	}
	return s.wait, nil
}

func (p *Paths) older() string {
	if p.o.Older == nil {
		return ""
	}
	return p.o.Older()
}

// write makes the Secret, or brings it up to date.
func (p *Paths) write(ctx context.Context, old *corev1.Secret, s state) error {
	var written *corev1.Secret
	var err error
	if old == nil {
		written, err = p.objects.create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.o.Namespace, Name: p.o.Secret, Labels: map[string]string{"app.kubernetes.io/managed-by": fieldManager}},
			Data:       s.data(),
		})
	} else {
		changed := old.DeepCopy()
		changed.Data = s.data()
		written, err = p.objects.update(ctx, changed)
	}
	if err != nil {
		return fmt.Errorf("write Secret %s/%s: %w", p.o.Namespace, p.o.Secret, err)
	}
	p.seeSecret(written)
	if s.next == "" {
		p.o.Log.Info("the API server calls by a new secret path", "configuration", p.o.Configuration)
	}
	return nil
}

// repath has the webhooks called by a secret.
func (p *Paths) repath(ctx context.Context, c *admissionv1.ValidatingWebhookConfiguration, secret string, plain bool) error {
	raw, err := p.hooks.patch(c, p.o.Namespace, secret)
	if err != nil {
		return err
	}
	changed, err := p.objects.patch(ctx, raw)
	if err != nil {
		return fmt.Errorf("patch the webhook configuration: %w", err)
	}
	p.changes.AllowN(p.now(), 1)
	p.seeConfiguration(changed, false)
	if plain && secret != "" && p.changes.TokensAt(p.now()) < changesAtOnce-1 {
		p.o.Log.Warn("something put the plain path back into the webhook configuration, and it was changed again: see docs/platforms.md for what GitOps tools are to leave alone",
			"configuration", p.o.Configuration, "next_not_before", p.now().Add(p.pause()))
	}
	return nil
}

// Changes of the configuration are bounded, so that nobody is fought who keeps changing it back: so many at once,
// and after those one in a while.
const (
	changesAtOnce = 10
	changeEvery   = time.Minute
)

// pause is how long the next change has to wait.
func (p *Paths) pause() time.Duration {
	lacks := 1 - p.changes.TokensAt(p.now())
	return max(0, time.Duration(lacks*float64(changeEvery)))
}
