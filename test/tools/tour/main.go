// Command tour is `make run`: it serves the embedded library over the sample cluster, no Kubernetes
// needed, sends a few evictions through the webhook as the API server would, prints what the client of
// each would read, and stays up.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// stops are the pods of the tour, all on the sample's node-a, and who evicts them.
var stops = []struct{ pod, user, what string }{
	{"web-7d4b9c6f5-2xkqv", "admin", "a Deployment with a healthy budget"},
	{"cart-7d4b9c6f5-5hj2n", "admin", "pods annotated do-not-disrupt, evicted by kubectl drain"},
	{"api-7d4b9c6f5-4c8tr", "system:serviceaccount:kube-system:cluster-autoscaler", "a budget that waits for a crashing pod"},
	{"search-7d4b9c6f5-b7n3x", "admin", "a budget that can never allow a disruption"},
	{"ledger-7d4b9c6f5-c3f6k", "admin", "two budgets on one pod"},
	{"mail-cleanup", "admin", "a pod that has finished"},
	{"no-such-pod", "admin", "a pod that does not exist: the API server answers 404 itself"},
}

func main() {
	var o options
	flag.BoolVar(&o.once, "once", false, "stop after the last answer instead of staying up")
	flag.StringVar(&o.listen, "listen", "127.0.0.1:9443", "where the webhook listens; port 0 picks a free one")
	flag.StringVar(&o.review, "review-listen", "127.0.0.1:8082", "where the review page listens; port 0 picks a free one")
	flag.StringVar(&o.binary, "evictgate", "bin/evictgate", "the program")
	flag.StringVar(&o.snapshot, "snapshot", "config/samples/cluster.yaml", "the cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := tour(ctx, os.Stdout, o); err != nil {
		fmt.Fprintf(os.Stderr, "tour: %v\n", err)
		os.Exit(1)
	}
}

// options say what is toured, and where it listens.
type options struct {
	binary, snapshot, listen, review string
	once                             bool
}

func tour(ctx context.Context, out io.Writer, o options) error {
	dir, err := os.MkdirTemp("", "evictgate-tour-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	address, err := freePort(o.listen)
	if err != nil {
		return err
	}
	if o.review, err = freePort(o.review); err != nil {
		return err
	}
	server, err := startServer(ctx, o, address, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	client, err := server.client(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "evictgate serves %s with its default policies on https://%s/validate-eviction\n", o.snapshot, address)
	for _, s := range stops {
		response, err := review(ctx, client, address, s.pod, s.user)
		if err != nil {
			return err
		}
		show(out, s.what, s.pod, s.user, response)
	}
	if o.once {
		return nil
	}
	_, _ = fmt.Fprintf(out, "\nreview:  http://%s/\nrecords: %s\nlog:     %s\nCtrl-C stops it\n", o.review, server.records, server.log)
	return server.wait(ctx)
}

// freePort turns port 0 into a free one.
func freePort(address string) (string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%w; choose another address with -listen or -review-listen", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

type server struct {
	command      *exec.Cmd
	exited       chan error
	ca           string
	records, log string
}

func startServer(ctx context.Context, o options, address, dir string) (*server, error) {
	s := &server{
		exited: make(chan error, 1), ca: filepath.Join(dir, "ca.crt"),
		records: filepath.Join(dir, "records.jsonl"), log: filepath.Join(dir, "evictgate.log"),
	}
	records, err := os.Create(s.records)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	s.command = exec.CommandContext(ctx, o.binary, "serve", "--snapshot", o.snapshot, "--listen", address, "--review-listen", o.review,
		"--metrics-listen", "0", "--health-listen", "0", "--shutdown-delay", "0s", "--ca-out", s.ca)
	s.command.Stdout, s.command.Stderr = records, log
	s.command.Cancel = func() error { return s.command.Process.Signal(syscall.SIGTERM) }
	s.command.WaitDelay = 10 * time.Second
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start evictgate: %w; build it first with: make build", err)
	}
	go func() { s.exited <- s.command.Wait() }()
	return s, nil
}

func (s *server) stop() {
	if s.command.ProcessState == nil {
		_ = s.command.Process.Signal(syscall.SIGTERM)
	}
	err := <-s.exited
	s.exited <- err // wait may ask, too
}

func (s *server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.exited:
		s.exited <- err
		return fmt.Errorf("evictgate stopped: %w", s.failure(err))
	}
}

func (s *server) failure(err error) error {
	text, _ := os.ReadFile(s.log)
	return fmt.Errorf("%w\n%s", err, text)
}

// client waits for the throwaway CA, which the server writes before it listens.
func (s *server) client(ctx context.Context) (*http.Client, error) {
	for range 100 {
		pem, err := os.ReadFile(s.ca)
		pool := x509.NewCertPool()
		if err == nil && pool.AppendCertsFromPEM(pem) {
			return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-s.exited:
			s.exited <- err
			return nil, fmt.Errorf("evictgate stopped: %w", s.failure(err))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, errors.New("evictgate wrote no CA in 10 s")
}

// review sends what the API server sends for an eviction of the pod in the namespace shop.
func review(ctx context.Context, client *http.Client, address, pod, user string) (*admissionv1.AdmissionResponse, error) {
	eviction := policyv1.Eviction{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: pod},
	}
	object, err := json.Marshal(eviction)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("tour-" + pod), Operation: admissionv1.Create, Namespace: "shop", Name: pod,
			Kind:     metav1.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, SubResource: "eviction",
			UserInfo: authenticationv1.UserInfo{Username: user},
			Object:   runtime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		return nil, err
	}
	raw, err := post(ctx, client, "https://"+address+"/validate-eviction?timeout=5s", body)
	if err != nil {
		return nil, err
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Response == nil {
		return nil, fmt.Errorf("unexpected answer %q: %w", raw, err)
	}
	return answer.Response, nil
}

// post tries again while the server does not listen yet.
func post(ctx context.Context, client *http.Client, url string, body []byte) ([]byte, error) {
	var last error
	for range 50 {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			last = err
			time.Sleep(100 * time.Millisecond)
			continue
		}
		defer func() { _ = response.Body.Close() }()
		return io.ReadAll(response.Body)
	}
	return nil, last
}

func show(out io.Writer, what, pod, user string, r *admissionv1.AdmissionResponse) {
	_, _ = fmt.Fprintf(out, "\n# %s\n$ evict shop/%s as %s\n", what, pod, user)
	for _, w := range r.Warnings {
		_, _ = fmt.Fprintf(out, "  Warning: %s\n", w)
	}
	if r.Allowed {
		_, _ = fmt.Fprintf(out, "  admitted (outcome %s)\n", r.AuditAnnotations["outcome"])
		return
	}
	_, _ = fmt.Fprintf(out, "  %d %s: admission webhook %q denied the request: %s\n", r.Result.Code, orNone(string(r.Result.Reason)), "evictions.evictgate.dev", r.Result.Message)
}

func orNone(s string) string {
	if strings.TrimSpace(s) == "" {
		return "(no reason)"
	}
	return s
}
