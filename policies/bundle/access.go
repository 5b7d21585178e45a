package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// answerTimeout is how long a server may think before it answers.
const answerTimeout = 15 * time.Second

// access is how the server is talked to. To OPA's client it is a plugin.
type access struct {
	location
	tokenFile string
	limit     int64
	base      *http.Transport
}

func newAccess(l location, o Options) (*access, error) {
	roots, err := trustedCAs(l, o.CAFile)
	if err != nil {
		return nil, err
	}
	a := &access{location: l, tokenFile: o.TokenFile, limit: maxBytes}
	a.base = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: answerTimeout}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   answerTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		// A tarball is compressed already. Servers that call it Content-Encoding: gzip would have
		// it unpacked on the way.
		DisableCompression: true,
	}
	if o.TokenFile != "" {
		_, err = a.authorization()
	}
	return a, err
}

// trustedCAs is nil, which means the system's, without a file.
func trustedCAs(l location, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	if !l.secure {
		return nil, errors.New("a CA file is for https:// and oci://, this URL is not encrypted")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("the CA file %s holds no PEM certificate", file)
	}
	return pool, nil
}

// NewClient gives OPA the one client, however often it asks.
func (a *access) NewClient(rest.Config) (*http.Client, error) { return &http.Client{Transport: a}, nil }

// Prepare adds the token. A registry may ask for one from a server of its own choice; but where a
// redirect leads, to a store of blobs, the URL itself grants the access and a token must not go.
func (a *access) Prepare(req *http.Request) error {
	if a.tokenFile == "" || (req.Response != nil && req.URL.Scheme+"://"+req.URL.Host != a.server) {
		return nil
	}
	value, err := a.authorization()
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", value)
	return nil
}

// authorization reads the token file. A bearer token never has a colon (RFC 6750, section 2.1).
func (a *access) authorization() (string, error) {
	data, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case token == "" || strings.ContainsAny(token, "\r\n"):
		return "", fmt.Errorf("the token file %s must hold one line: a bearer token or user:password", a.tokenFile)
	case strings.Contains(token, ":"):
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(token)), nil
	}
	return "Bearer " + token, nil
}

func (a *access) close() { a.base.CloseIdleConnections() }

// RoundTrip bounds every answer before OPA sees it: OPA limits each file of a bundle, but neither
// their number nor what is downloaded, and reads all of it before it verifies anything.
func (a *access) RoundTrip(req *http.Request) (*http.Response, error) {
	if a.secure && req.URL.Scheme != "https" {
		return nil, fmt.Errorf("sent on to %s://%s, which is not encrypted", req.URL.Scheme, req.URL.Host)
	}
	resp, err := a.base.RoundTrip(req)
	if err != nil {
		return nil, withoutPort(err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, a.limit+1))
	_ = resp.Body.Close()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", withoutPort(err))
	case int64(len(body)) > a.limit:
		return nil, fmt.Errorf("the bundle has more than %d bytes", a.limit)
	}
	if err := unpacks(body, a.limit); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// withoutPort drops our own port, which differs each time, so that equal errors have equal texts.
func withoutPort(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		op.Source = nil
	}
	return err
}

// unpacks is an error when a gzipped tarball holds more than limit bytes, headers included, or too many files.
// What is not such a tarball is for others to refuse.
func unpacks(body []byte, limit int64) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	const block = 512
	files := tar.NewReader(unzipped)
	for total, n := int64(0), 0; ; n++ {
		header, err := files.Next()
		switch {
		case err != nil:
			return nil //nolint:nilerr // see above
		case n == maxFiles:
			return fmt.Errorf("the bundle has more than %d files", maxFiles)
		}
		if total += header.Size + block; header.Size > limit || total > limit {
			return fmt.Errorf("the bundle has more than %d bytes", limit)
		}
	}
}
