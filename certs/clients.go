package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
)

// ClientCA demands of those who call that they show a certificate of a CA. The
// CA is in a file, which is looked at on every connection, so that it may be
// replaced at any time. While what is there cannot be used, the CAs that were
// there last go on to count.
type ClientCA struct {
	file  string
	names []string
	log   logr.Logger

	mu   sync.Mutex
	seen os.FileInfo    // of the file when pool was read; nil when it must be read again
	pool *x509.CertPool // nil until the file was good once
	why  error          // what is wrong with the file now
}

// Clients reads the CAs, PEM encoded, from file, which need not be there yet.
// With names, a certificate must be for one of them, as its common name or one
// of its DNS names; without, any certificate of the CA will do.
func Clients(file string, names []string, log logr.Logger) *ClientCA {
	return &ClientCA{file: file, names: names, log: log.WithValues("file", file)}
}

// Demand has a TLS server refuse connections without such a certificate.
func (c *ClientCA) Demand(server *tls.Config) {
	base := server.Clone()
	base.ClientAuth = tls.RequireAndVerifyClientCert
	base.VerifyConnection = c.named
	// A resumed session would not look at the file.
	base.SessionTicketsDisabled = true
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := c.current()
		if pool == nil {
			return nil, err
		}
		config := base.Clone()
		config.ClientCAs = pool
		return config, nil
	}
}

// named looks at a certificate that is good as far as its CA is concerned.
func (c *ClientCA) named(state tls.ConnectionState) error {
	if len(c.names) == 0 {
		return nil
	}
	cert := state.PeerCertificates[0]
	for _, name := range append([]string{cert.Subject.CommonName}, cert.DNSNames...) {
		if slices.Contains(c.names, name) {
			return nil
		}
	}
	return fmt.Errorf("client certificate of %s is for none of the names %s", cert.Subject, strings.Join(c.names, ", "))
}

// Ready is a healthz.Checker; it fails until the file was good once.
func (c *ClientCA) Ready(*http.Request) error {
	pool, err := c.current()
	if pool == nil {
		return err
	}
	return nil
}

// current is what the file holds, or held when it was good last. What could
// not be read is read again each time, since it may become good without a
// change that shows: after an error of the disk, or by its permissions.
func (c *ClientCA) current() (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.file)
	if err == nil && c.unchanged(info) {
		return c.pool, nil
	}
	c.seen = nil
	if err == nil {
		var pool *x509.CertPool
		if pool, err = readPool(c.file); err == nil {
			c.pool, c.seen = pool, info
		}
	}
	c.tell(err)
	return c.pool, c.why
}

func (c *ClientCA) unchanged(info os.FileInfo) bool {
	return c.seen != nil && os.SameFile(c.seen, info) && c.seen.ModTime().Equal(info.ModTime()) && c.seen.Size() == info.Size()
}

// tell keeps what is wrong with the file, and logs it each time this changes.
func (c *ClientCA) tell(err error) {
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("is missing: mount the CA of the API server's client certificate there")
	}
	if err != nil {
		err = fmt.Errorf("client CA file %s %w", c.file, err)
	}
	if fmt.Sprint(err) == fmt.Sprint(c.why) && err != nil {
		return
	}
	c.why = err
	if err != nil {
		c.log.Info("client CAs cannot be read", "reason", err.Error(), "kept", c.pool != nil)
		return
	}
	c.log.Info("client CAs read")
}

func readPool(file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return parsePool(raw)
}

func parsePool(raw []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, errors.New("holds no certificate in PEM form")
	}
	return pool, nil
}
