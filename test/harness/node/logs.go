//go:build linux

package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// logServer is the part of a kubelet's own API that `kubectl logs` needs. Anybody who reaches the bridge may
// read, and the API server is told nothing that would let it check our certificate.
type logServer struct {
	agent    *Agent
	listener net.Listener
	http     *http.Server
}

func newLogServer(a *Agent) (*logServer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	s := &logServer{agent: a}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if s.listener, err = tls.Listen("tcp", net.JoinHostPort(a.options.Network.Gateway(), "0"), config); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serve)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return a.ctx }}
	go func() { _ = s.http.Serve(s.listener) }() // until it is closed
	return s, nil
}

func (s *logServer) address() string { return s.listener.Addr().String() }

func (s *logServer) close() error { return s.http.Close() }

// serve writes the log, or its last lines, and with follow goes on until the client leaves.
func (s *logServer) serve(w http.ResponseWriter, r *http.Request) {
	log, err := os.Open(s.agent.logFile(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")))
	if err != nil {
		http.Error(w, "there is no log yet", http.StatusNotFound)
		return
	}
	defer func() { _ = log.Close() }()
	text, _ := io.ReadAll(log)
	if lines, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil {
		text = []byte(tail(string(text), lines))
	}
	_, _ = w.Write(text)
	for follow := r.URL.Query().Get("follow") == "true"; follow && sleep(r.Context(), look); {
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
		if _, err := io.Copy(w, log); err != nil {
			return
		}
	}
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	if n := len(all); all[n-1] == "" {
		all = all[:n-1]
	}
	return strings.Join(all[max(0, len(all)-lines):], "")
}
