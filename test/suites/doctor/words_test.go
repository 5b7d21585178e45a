package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// issued is a serving certificate that is its own CA.
func issued(t *testing.T, name string, from, until time.Duration) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// What the API server says of a call that fails is understood: the words are its own, and Go's.
func TestTheWordsOfFailedCallsAreUnderstood(t *testing.T) {
	installed(t)
	kubectl(t, "delete", "validatingwebhookconfiguration", "evictgate") // else its replicas decide, too
	t.Cleanup(func() {
		run(t, "kubectl apply -k config/default")
		healthy(t)
	})
	good, ca := issued(t, "localhost", -time.Hour, time.Hour)
	another, anothersCA := issued(t, "other.example", -time.Hour, time.Hour)
	old, oldCA := issued(t, "localhost", -2*time.Hour, -time.Hour)
	early, earlyCA := issued(t, "localhost", time.Hour, 2*time.Hour)
	for name, c := range map[string]struct {
		serve func(*httptest.Server)
		ca    []byte
		want  string
	}{
		"another name": {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{another} }, anothersCA, "the serving certificate is for another name"},
		"it has ended": {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{old} }, oldCA, "the serving certificate has ended"},
		"it is early":  {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{early} }, earlyCA, "the serving certificate is not valid yet"},
		"another CA":   {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{good} }, anothersCA, "it does not trust the certificate"},
		"none yet": {func(s *httptest.Server) {
			s.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }
		}, ca, "the replica has no certificate to serve yet"},
		"the client must show one": {func(s *httptest.Server) {
			s.TLS.Certificates, s.TLS.ClientAuth = []tls.Certificate{good}, tls.RequireAnyClientCert
		}, ca, "the replica asks for a client certificate (--client-ca), and does not take what the API server shows"},
		"no TLS":          {func(s *httptest.Server) { s.TLS = nil }, ca, "what answers there speaks no TLS"},
		"it breaks off":   {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{good}; s.Config.Handler = breaksOff{} }, ca, "the connection ended before the answer"},
		"another program": {func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{good} }, ca, "the path is not served there"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			c.serve(server)
			start(server)
			defer server.Close()
			o := gate.Options{Name: "words", CABundle: c.ca}
			configuration, err := o.Configuration(server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			hooks := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
			if _, err := hooks.Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			defer func() { kubectl(t, "delete", "validatingwebhookconfiguration", "words") }()
			text := "the API server cannot ask the gate: " + c.want + " ("
			settled(t, "gate", problem, text, "--webhook-configuration=words").wants(t, "gate", problem, text)
		})
	}
}

// start serves with the certificate that was set, where httptest would add its own.
func start(server *httptest.Server) {
	if server.TLS == nil {
		server.Start()
		return
	}
	server.Listener = tls.NewListener(server.Listener, server.TLS)
	server.TLS = nil
	server.Start()
}

// breaksOff ends each connection instead of an answer.
type breaksOff struct{}

func (breaksOff) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			_ = c.(*tls.Conn).NetConn().(*net.TCPConn).Close()
		}
	}
}
