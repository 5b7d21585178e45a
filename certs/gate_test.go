package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
)

// fakeAuthority has a CA that the test changes.
type fakeAuthority struct {
	mu      sync.Mutex
	ca      *issuer
	err     error
	watches []chan<- struct{}
}

func (f *fakeAuthority) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fakeAuthority) WatchRotation(ch chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches = append(f.watches, ch)
}

func (f *fakeAuthority) StopWatchingRotation(ch chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches = slices.DeleteFunc(f.watches, func(c chan<- struct{}) bool { return c == ch })
}

func (f *fakeAuthority) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if f.ca == nil {
		return nil, authority.ErrCertificateNotAvailable
	}
	template.NotBefore, template.NotAfter = time.Now(), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca.cert, template.PublicKey, f.ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (f *fakeAuthority) rotate(ca issuer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ca = &ca
	for _, ch := range f.watches {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// gated is a gate with a settle time of 2 s in a bubble of virtual time.
type gated struct {
	*gate
	inner *fakeAuthority
	began time.Time
}

func newGated(t *testing.T, ca *issuer) *gated {
	t.Helper()
	inner := &fakeAuthority{ca: ca}
	g := &gated{
		gate: &gate{
			Authority: inner,
			threshold: &threshold{trust: ownTrust(), settle: 2 * time.Second, log: logr.Discard()},
			ips:       []net.IP{net.IPv4(127, 0, 0, 1)},
			stopped:   make(chan struct{}),
		},
		inner: inner,
		began: time.Now(),
	}
	return g
}

// after runs do at a time after the beginning.
func (g *gated) after(d time.Duration, do func()) { time.AfterFunc(time.Until(g.began.Add(d)), do) }

func (g *gated) bundle(first bool, cas ...issuer) {
	var pem []byte
	for _, ca := range cas {
		pem = append(pem, ca.pem()...)
	}
	g.trust.setConfiguration(configuration(testSecret, pem), first)
}

// signs fails unless Sign returns a leaf of ca at that time after the
// beginning.
func (g *gated) signs(t *testing.T, ca issuer, at time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := g.Sign(&x509.Certificate{DNSNames: []string{"localhost"}, PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Since(g.began); got != at {
		t.Errorf("signed after %s, want %s", got, at)
	}
	if err := leaf.CheckSignatureFrom(ca.cert); err != nil {
		t.Errorf("signed by another CA: %v", err)
	}
	if len(leaf.IPAddresses) != 1 {
		t.Errorf("addresses %v, want one", leaf.IPAddresses)
	}
}

func TestGate(t *testing.T) {
	for name, run := range map[string]func(t *testing.T, g *gated, a, b issuer){
		"a first leaf under a caBundle that is not news comes at once": func(t *testing.T, g *gated, a, _ issuer) {
			g.bundle(true, a)
			g.signs(t, a, 0)
		},
		"a first leaf waits for its CA in the caBundle to settle": func(t *testing.T, g *gated, a, b issuer) {
			g.bundle(true, b)
			g.after(5*time.Second, func() { g.bundle(false, b, a) })
			g.signs(t, a, 7*time.Second)
		},
		"a first leaf waits for the Secret": func(t *testing.T, g *gated, a, _ issuer) {
			g.inner.ca = nil
			g.bundle(true, a)
			g.after(500*time.Millisecond, func() { g.inner.rotate(a) })
			g.signs(t, a, 500*time.Millisecond)
		},
		"a renewed leaf settles": func(t *testing.T, g *gated, a, _ issuer) {
			g.bundle(true, a)
			g.signs(t, a, 0)
			g.signs(t, a, 2*time.Second)
		},
		"a new CA waits for the caBundle and settles": func(t *testing.T, g *gated, a, b issuer) {
			g.bundle(true, a)
			g.signs(t, a, 0)
			g.inner.rotate(b)
			g.after(30*time.Second, func() { g.bundle(false, a, b) })
			g.signs(t, b, 32*time.Second)
		},
		"a CA that rotates again while its leaf is held is not served": func(t *testing.T, g *gated, a, b issuer) {
			g.bundle(true, b)
			g.after(5*time.Second, func() { g.inner.rotate(b) })
			g.signs(t, b, 5*time.Second)
		},
		"a CA that rotates again while its leaf settles is not served": func(t *testing.T, g *gated, a, b issuer) {
			g.bundle(false, a, b)
			g.after(time.Second, func() { g.inner.rotate(b) })
			g.signs(t, b, 2*time.Second)
		},
		"a new CA that replaces the old one in the caBundle need not settle": func(t *testing.T, g *gated, a, b issuer) {
			g.bundle(true, a)
			g.signs(t, a, 0)
			g.inner.rotate(b)
			g.after(30*time.Second, func() { g.bundle(false, b) })
			g.signs(t, b, 30*time.Second)
		},
		"an API server with a late clock is waited for": func(t *testing.T, g *gated, a, _ issuer) {
			g.bundle(true, a)
			g.trust.clock.ahead.Store(int64(20 * time.Second))
			g.signs(t, a, 20*time.Second)
		},
		"no configuration is waited for": func(t *testing.T, g *gated, a, _ issuer) {
			g.after(time.Minute, func() { g.bundle(false, a) })
			g.signs(t, a, 62*time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newIssuer(t, "ca"), newIssuer(t, "ca")
				run(t, newGated(t, &a), a, b)
			})
		})
	}
}

func TestGateSaysWhyItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newIssuer(t, "ca")
		g := newGated(t, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.signs(t, a, 6*time.Second)
		}()
		time.Sleep(time.Second)
		says(t, g.held(), "Secret gate-ns/gate-ca not yet written")
		g.inner.rotate(a)
		synctest.Wait()
		says(t, g.held(), "ValidatingWebhookConfiguration gate does not exist")
		g.bundle(true)
		synctest.Wait()
		says(t, g.held(), "does not contain our CA yet")
		time.Sleep(3 * time.Second)
		g.bundle(false, a)
		<-done
	})
}

func TestGateLetsGo(t *testing.T) {
	broken := errors.New("CA key is broken")
	for name, c := range map[string]struct {
		inner *fakeAuthority
		want  error
	}{
		"when the authority stops":                   {&fakeAuthority{ca: &issuer{}}, errStopped},
		"when the authority stops without a CA":      {&fakeAuthority{}, errStopped},
		"when the authority cannot sign, to be told": {&fakeAuthority{err: broken}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGated(t, nil)
				if c.inner.ca != nil {
					ca := newIssuer(t, "ca")
					c.inner.ca = &ca
				}
				g.Authority = c.inner
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				go func() { _ = g.Run(ctx) }()
				key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				_, err := g.Sign(&x509.Certificate{PublicKey: key.Public()})
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				says(t, g.held(), "no serving certificate: "+c.want.Error())
			})
		})
	}
}
