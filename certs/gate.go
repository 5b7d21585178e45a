package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
)

const (
	// recheck is how often a held leaf is looked at without any event: time
	// alone can make it good.
	recheck = time.Second
	// tellAgain is how long a leaf is held before a log line says why, and the
	// time between two such lines. An ordinary rotation says nothing.
	tellAgain = 10 * time.Second
)

var (
	errStopped = errors.New("certificate authority stopped")
	errRotated = errors.New("CA rotated")
)

// gate is an Authority whose Sign returns only what the API server trusts
// already. As cert-manager ships it, the source serves a leaf of the new CA at
// once, while the caBundle may still lack that CA; measured, that fails calls
// on every rotation.
//
// Sign blocks rather than fails, since DynamicSource keeps serving its old
// leaf meanwhile and would otherwise poll and log.
// https://github.com/cert-manager/cert-manager/blob/v1.21.2/pkg/server/tls/dynamic_source.go
type gate struct {
	cmtls.Authority
	trust  *trust
	ips    []net.IP
	settle time.Duration
	log    logr.Logger

	stopped chan struct{} // closed when Run returned
	served  bool          // a leaf was handed out before; only Sign's caller touches it

	mu     sync.Mutex
	reason error     // why the last leaf was held
	toldAt time.Time // when that was logged, or the hold began
}

// Run runs the authority inside, and releases Sign when it ends.
func (g *gate) Run(ctx context.Context) error {
	defer close(g.stopped)
	return g.Authority.Run(ctx)
}

// Sign signs template with the current CA and returns when the API server
// trusts the result; if the CA rotates meanwhile it starts over.
func (g *gate) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	rotated := make(chan struct{}, 1)
	g.WatchRotation(rotated)
	defer g.StopWatchingRotation(rotated)

	g.begin()
	template.IPAddresses = g.ips
	for {
		leaf, err := g.Authority.Sign(template)
		switch {
		case err == nil:
			err = g.untilTrusted(leaf, rotated)
		case errors.Is(err, authority.ErrCertificateNotAvailable):
			g.hold(g.trust.noSecret())
			err = g.wait(rotated, recheck)
		}
		switch {
		case err == nil && leaf != nil:
			g.served = true
			return leaf, nil
		case err != nil && !errors.Is(err, errRotated):
			g.hold(fmt.Errorf("no serving certificate: %w", err))
			return nil, err
		}
	}
}

// untilTrusted returns nil when leaf may be served.
func (g *gate) untilTrusted(leaf *x509.Certificate, rotated <-chan struct{}) error {
	for {
		pause := recheck
		err := g.trust.check(leaf)
		if err == nil {
			if pause = time.Until(g.due(leaf)); pause <= 0 {
				return nil
			}
		} else {
			g.hold(err)
		}
		if err := g.wait(rotated, pause); err != nil {
			return err
		}
	}
}

// due is when a trusted leaf may be served. The first one of a process need
// not grow old itself, for nobody calls a replica which was not ready yet.
func (g *gate) due(leaf *x509.Certificate) time.Time {
	since := g.trust.since()
	if g.served && leaf.NotBefore.After(since) {
		since = leaf.NotBefore
	}
	return since.Add(g.settle)
}

// wait returns nil when it is worth looking again.
func (g *gate) wait(rotated <-chan struct{}, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-g.stopped:
		return errStopped
	case <-rotated:
		return errRotated
	case <-g.trust.changed:
	case <-timer.C:
	}
	return nil
}

func (g *gate) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.toldAt = time.Now()
}

// hold remembers why there is no new leaf, and says so if it takes long.
func (g *gate) hold(reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = reason
	if time.Since(g.toldAt) < tellAgain {
		return
	}
	g.toldAt = time.Now()
	g.log.Info("holding back a new serving certificate", "reason", reason.Error())
}

// held is why there is no leaf at all yet.
func (g *gate) held() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reason == nil {
		return g.trust.noSecret()
	}
	return g.reason
}
