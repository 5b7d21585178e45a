package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
)

// client signs a certificate for a client, changed by tune.
func (i issuer) client(t *testing.T, tune func(*x509.Certificate)) []tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: []string{"apiserver.example"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if tune != nil {
		tune(template)
	}
	cert, key, err := sign(template, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}}
}

// demanding is a server that demands certificates by the file.
func demanding(t *testing.T, file string, names ...string) (*ClientCA, func([]tls.Certificate) error) {
	t.Helper()
	c := Clients(file, names, testr.New(t))
	server, err := Ephemeral([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{GetCertificate: server.GetCertificate, NextProtos: []string{"http/1.1"}}
	c.Demand(config)
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
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
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	cache := tls.NewLRUClientSessionCache(1) // resumes where the server lets it
	return c, func(certificates []tls.Certificate) error {
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{
			RootCAs: roots, ServerName: "localhost", Certificates: certificates, ClientSessionCache: cache,
		}}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		return ping(conn)
	}
}

func TestClients(t *testing.T) {
	ca, other := newIssuer(t, "callers"), newIssuer(t, "callers")
	for name, c := range map[string]struct {
		names   []string
		callers []tls.Certificate
		want    string
	}{
		"of the CA":                     {nil, ca.client(t, nil), ""},
		"of the CA, by its common name": {[]string{"kube-apiserver"}, ca.client(t, nil), ""},
		"of the CA, by its DNS name":    {[]string{"x", "apiserver.example"}, ca.client(t, nil), ""},
		"of the CA, for another name":   {[]string{"x"}, ca.client(t, nil), "bad certificate"},
		"none":                          {nil, nil, "certificate required"},
		"of another CA of that name":    {nil, other.client(t, nil), "unknown certificate authority"},
		"expired": {nil, ca.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
			"expired certificate"},
		"for servers only": {nil, ca.client(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), "bad certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "ca.crt", ca.pem())
			_, call := demanding(t, filepath.Join(dir, "ca.crt"), c.names...)
			for range 2 { // the second would be resumed
				if c.want == "" {
					says(t, call(c.callers))
				} else {
					says(t, alerted(func() error { return call(c.callers) }), c.want)
				}
			}
		})
	}
}

// alerted tries until a caller that is refused hears why: by TLS 1.3 its own first bytes may meet the closed connection
// before the alert does. Nil when it is let in.
func alerted(try func() error) (err error) {
	for range 20 {
		if err = try(); err == nil || strings.Contains(err.Error(), "remote error: tls: ") {
			break
		}
	}
	return err
}

func TestClientsFollowTheFile(t *testing.T) {
	a, b := newIssuer(t, "a"), newIssuer(t, "b")
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	c, call := demanding(t, file)
	ofA, ofB := a.client(t, nil), b.client(t, nil)
	refused := func(callers []tls.Certificate) {
		t.Helper()
		if call(callers) == nil {
			t.Error("let in")
		}
	}

	says(t, c.Ready(nil), "client CA file "+file+" is missing: mount the CA of the API server's client certificate there")
	refused(ofA)
	write(t, dir, "ca.crt", []byte("hello"))
	says(t, c.Ready(nil), "client CA file "+file+" holds no certificate in PEM form")
	refused(ofA)
	write(t, dir, "ca.crt", a.pem())
	says(t, c.Ready(nil))
	says(t, call(ofA))
	refused(ofB)
	write(t, dir, "ca.crt", append(a.pem(), b.pem()...))
	says(t, call(ofA))
	says(t, call(ofB))
	write(t, dir, "next", b.pem())
	if err := os.Rename(filepath.Join(dir, "next"), file); err != nil {
		t.Fatal(err)
	}
	refused(ofA)
	says(t, call(ofB))
	write(t, dir, "ca.crt", []byte("half a fi"))
	says(t, call(ofB))
	says(t, c.Ready(nil))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	says(t, call(ofB))
	refused(ofA)
}

// A read that fails leaves no trace in the file's size, time or inode, and neither does its success.
func TestClientsReadAgainWhatWasBad(t *testing.T) {
	ca := newIssuer(t, "callers")
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	at := time.Now().Add(-time.Hour)
	put := func(content []byte) {
		t.Helper()
		write(t, dir, "ca.crt", content)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	c := Clients(file, nil, testr.New(t))
	put(bytes.Repeat([]byte("?"), len(ca.pem())))
	says(t, c.Ready(nil), "client CA file "+file+" holds no certificate in PEM form")
	put(ca.pem())
	says(t, c.Ready(nil))
}
