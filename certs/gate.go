package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
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
	*threshold
	ips     []net.IP
	stopped chan struct{} // closed when Run returned
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
	until := interrupts{stopped: g.stopped, superseded: rotated}

	g.begin()
	template.IPAddresses = g.ips
	for {
		leaf, err := g.Authority.Sign(template)
		switch {
		case err == nil:
			err = g.pass(until, leaf)
		case errors.Is(err, authority.ErrCertificateNotAvailable):
			g.hold(g.trust.noSecret())
			err = g.wait(until, recheck)
		}
		switch {
		case err == nil && leaf != nil:
			return leaf, nil
		case err != nil && !errors.Is(err, errSuperseded):
			g.hold(fmt.Errorf("no serving certificate: %w", err))
			return nil, err
		}
	}
}
