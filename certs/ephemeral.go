package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// ephemeralDuration outlives any process that has no cluster behind it.
	ephemeralDuration = 365 * 24 * time.Hour
	// ephemeralBackdate forgives a client whose clock is behind ours.
	ephemeralBackdate = time.Hour
)

// EphemeralSource serves one certificate from a CA that nobody can use again:
// its key is forgotten as soon as the certificate is signed. It is never
// renewed.
type EphemeralSource struct {
	leaf  tls.Certificate
	caPEM []byte
}

// Ephemeral makes a CA and a certificate for the given names, valid for a year
// from an hour ago. It fails if there is no name at all.
func Ephemeral(dnsNames []string, ips []net.IP) (*EphemeralSource, error) {
	if len(dnsNames)+len(ips) == 0 {
		return nil, fmt.Errorf("make throwaway certificate: no DNS name and no IP address to make it for")
	}
	now := time.Now()
	ca, caKey, err := sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "evictgate-throwaway-ca"},
		NotBefore:             now.Add(-ephemeralBackdate),
		NotAfter:              now.Add(ephemeralDuration),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("make throwaway CA: %w", err)
	}
	leaf, key, err := sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "evictgate"},
		DNSNames:              dnsNames,
		IPAddresses:           ips,
		NotBefore:             ca.NotBefore,
		NotAfter:              ca.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, ca, caKey)
	if err != nil {
		return nil, fmt.Errorf("make throwaway certificate: %w", err)
	}
	return &EphemeralSource{
		leaf:  tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		caPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
	}, nil
}

// sign makes a key and has parent sign template for it; without a parent the
// certificate signs itself.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// CAPEM is the CA certificate, PEM encoded, by which a local client trusts
// this source.
func (s *EphemeralSource) CAPEM() []byte { return append([]byte(nil), s.caPEM...) }

// GetCertificate is for tls.Config; it never fails.
func (s *EphemeralSource) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.leaf, nil
}

// Ready is a healthz.Checker; it fails when the year is over.
func (s *EphemeralSource) Ready(*http.Request) error { return validity(s.leaf.Leaf, time.Now()) }

// Start has nothing to do and returns nil when ctx ends.
func (s *EphemeralSource) Start(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// NeedLeaderElection says that every replica runs its own source.
func (s *EphemeralSource) NeedLeaderElection() bool { return false }
