package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"
)

// issuer is a CA for tests.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB, name string) issuer {
	t.Helper()
	return newIssuerFrom(t, name, time.Now())
}

func newIssuerFrom(t testing.TB, name string, from time.Time) issuer {
	t.Helper()
	cert, key, err := sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             from,
		NotAfter:              from.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{cert, key}
}

// leaf is valid for an hour from a time, for localhost unless names are given.
func (i issuer) leaf(t *testing.T, from time.Time, names ...string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	if len(names) == 0 {
		names = []string{"localhost"}
	}
	cert, key, err := sign(&x509.Certificate{
		DNSNames:    names,
		NotBefore:   from,
		NotAfter:    from.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (i issuer) pem() []byte { return certPEM(i.cert) }

func (i issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return pool
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// source is the surface that all three share.
type source interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// listen accepts TLS connections on 127.0.0.1 with the source's certificate
// and echoes what it reads.
func listen(t *testing.T, s source) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: s.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	return l.Addr().String()
}

func echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// shake makes one full handshake and an echo, and returns the peer's
// certificate.
func shake(addr, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], ping(conn)
}

func ping(conn net.Conn) error {
	if _, err := conn.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4))
	return err
}

// eventually waits up to ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// says fails unless err holds every fragment; no fragments mean no error.
func says(t *testing.T, err error, fragments ...string) {
	t.Helper()
	if len(fragments) == 0 && err != nil {
		t.Errorf("unexpected error: %v", err)
	}
	for _, f := range fragments {
		if err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("error %v\nlacks %q", err, f)
		}
	}
}

func TestLeaf(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	ca := newIssuerFrom(t, "ca", now.Add(-48*time.Hour))
	nameless, _, err := sign(&x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(from time.Time, names ...string) *x509.Certificate {
		cert, _ := ca.leaf(t, from, names...)
		return cert
	}
	both := leaf(now, "a.example", "b.example")
	withIP, _, err := sign(&x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now, NotAfter: now.Add(time.Hour),
	}, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"valid from this second":   {validity(both, now), ""},
		"valid to this second":     {validity(both, now.Add(time.Hour)), ""},
		"expired":                  {validity(both, now.Add(time.Hour+time.Second)), "certificate expired at 2026-11-02T11:00:00Z: renew it, or correct the clock"},
		"expired for longer":       {validity(both, now.Add(24*time.Hour)), "certificate expired at 2026-11-02T11:00:00Z: renew it, or correct the clock"},
		"too early":                {validity(both, now.Add(-time.Second)), "certificate is not valid before 2026-11-02T10:00:00Z: wait, or correct the clock"},
		"every name is covered":    {covers(both, "a.example", "b.example"), ""},
		"nothing is asked for":     {covers(both), ""},
		"an address is covered":    {covers(withIP, "localhost", "127.0.0.1"), ""},
		"a name that is not there": {covers(both, "a.example", "c.example", "d.example"), "certificate is for names a.example, b.example, not for c.example, d.example: issue it for every name the API server calls"},
		"an address that is not there": {covers(withIP, "::1"),
			"certificate is for names localhost, 127.0.0.1, not for ::1: issue it for every name the API server calls"},
		"a certificate without names": {covers(nameless, "a.example"),
			"certificate is for no name at all, not for a.example: issue it for every name the API server calls"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if c.err != nil {
				got = c.err.Error()
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
