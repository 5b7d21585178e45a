package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// DefaultLimit is how many bytes an upload has at most, compressed: OPA's upload_size_limit_bytes.
const DefaultLimit = 32768

// minLimit leaves room for a record without its input.
const minLimit = 4096

// answerTimeout is how long one upload may take.
const answerTimeout = 30 * time.Second

// ClientOptions say where records go.
type ClientOptions struct {
	// URL is OPA's service URL with /logs, or /logs/PARTITION, at its end.
	URL string
	// TokenFile holds a bearer token; it is read for each upload, since tokens are renewed. Empty: none.
	TokenFile string
	// CAFile holds PEM certificates to trust beside the system's. Empty: none.
	CAFile string
	// Limit is how many bytes an upload has at most, compressed; DefaultLimit when it is 0.
	Limit int
}

// Client uploads records. It is a Target of a record.Output, and not safe for concurrent use.
type Client struct {
	ClientOptions
	http *http.Client
	// fit is how many records are expected to fit into an upload.
	fit int
}

// NewClient checks the options. It does not ask the server.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Limit < minLimit {
		return nil, fmt.Errorf("the limit of an upload is %d bytes; expected at least %d", o.Limit, minLimit)
	}
	u, err := readURL(o.URL)
	if err != nil {
		return nil, err
	}
	roots, err := trustedCAs(u, o.CAFile)
	if err != nil {
		return nil, err
	}
	c := &Client{ClientOptions: o, fit: 10}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Timeout: answerTimeout,
		Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
		},
		// A redirected POST would become a GET, and the token would go elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// readURL never repeats what it cannot read: it may hold a password.
func readURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, errors.New("the upload's URL must begin with https:// or http:// and a host")
	case u.User != nil:
		return nil, fmt.Errorf("the upload's URL %s holds a user; give a token file", u.Redacted())
	case strings.Trim(u.Path, "/") == "":
		return nil, fmt.Errorf("the upload's URL %s has no path; OPA's protocol has /logs, or /logs/PARTITION, at the end of the service's URL", u)
	}
	return u, nil
}

// trustedCAs is nil, which means the system's, without a file.
func trustedCAs(u *url.URL, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("the upload's CA file is for https://, and %s is not encrypted", u)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the upload's CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("the upload's CA file %s holds no PEM certificate", file)
	}
	return pool, nil
}

// token is empty without a file.
func (c *Client) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	return readToken(c.TokenFile)
}

func readToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, "\r\n\t ") {
		return "", fmt.Errorf("the token file %s must hold one bearer token on one line", file)
	}
	return token, nil
}

// Send uploads the records in one or more uploads. An answer that refuses the records themselves is an
// record.ErrRefused; any other than 2xx, like no answer, is worth another try.
func (c *Client) Send(ctx context.Context, records []record.Record) (sent int, err error) {
	for sent < len(records) {
		body, n, err := c.pack(records[sent:])
		if err == nil {
			err = c.post(ctx, body)
		}
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// pack compresses as many records as fit, at least one. How many that are is guessed by the uploads before.
func (c *Client) pack(records []record.Record) (body []byte, n int, err error) {
	n = min(len(records), c.fit)
	for {
		body, written, err := compress(records[:n], c.Limit)
		switch {
		case err != nil:
			return nil, 0, err
		case len(body) <= c.Limit:
			c.fit = max(n, scaled(n, c.Limit, len(body)))
			return body, n, nil
		case n == 1:
			body, err = c.packAlone(records[0], len(body))
			return body, 1, err
		}
		n = max(1, min(n-1, scaled(written, c.Limit, len(body))))
		c.fit = n
	}
}

// scaled is how many of n records, which have so many bytes, fit into the limit with some room.
func scaled(n, limit, bytes int) int { return n * limit / bytes * 9 / 10 }

// packAlone leaves the input out: the decision matters more.
func (c *Client) packAlone(r record.Record, size int) ([]byte, error) {
	r.Input, r.Erased = nil, append(r.Erased[:len(r.Erased):len(r.Erased)], "/input")
	body, _, err := compress([]record.Record{r}, c.Limit)
	if err == nil && len(body) > c.Limit {
		err = fmt.Errorf("%w: record %s has %d bytes compressed, an upload may have %d", record.ErrRefused, r.DecisionID, size, c.Limit)
	}
	return body, err
}

// compress makes a gzipped JSON array. One that is going to be larger than the limit ends early, since it is not
// sent: written says how many records are in it.
func compress(records []record.Record, limit int) (compressed []byte, written int, err error) {
	var body bytes.Buffer
	packed := gzip.NewWriter(&body)
	separator := byte('[')
	var line []byte
	for _, r := range records {
		if line, err = r.AppendJSON(append(line[:0], separator)); err != nil {
			return nil, 0, fmt.Errorf("%w: encode record %s: %w", record.ErrRefused, r.DecisionID, err)
		}
		if _, err = packed.Write(line); err != nil {
			return nil, 0, err
		}
		separator = ','
		if written++; body.Len() > limit {
			break
		}
	}
	if _, err := packed.Write([]byte("]")); err != nil {
		return nil, 0, err
	}
	err = packed.Close()
	return body.Bytes(), written, err
}

func (c *Client) post(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Content-Encoding", "gzip")
	request.Header.Set("User-Agent", "evictgate")
	token, err := c.token()
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	// What is beyond is not read, so that the connection is given up.
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return judge(response.StatusCode, answer)
}

// judge says what an answer means. OPA asks for a 2xx and reads no more; our own handler also says what it
// skipped.
func judge(code int, answer []byte) error {
	switch {
	case code >= 200 && code < 300:
		var a Answer
		if json.Unmarshal(answer, &a) == nil && len(a.Skipped) > 0 {
			return fmt.Errorf("%w: %s", record.ErrRefused, a.Skipped[0].Why)
		}
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("the server answers %d, which leads elsewhere; give the URL it leads to", code)
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: the server answers %d: %.200q", record.ErrRefused, code, answer)
	}
	return fmt.Errorf("the server answers %d: %.200q", code, answer)
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
