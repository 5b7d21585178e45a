// Package gate runs `evictgate serve` beside a control plane of package kube and registers it there:
// what a test, a benchmark or the demo needs to send real evictions through the real program.
package gate

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
)

// Options says how evictgate is run. Plane and Binary are required.
type Options struct {
	Plane *kube.ControlPlane
	// Binary is the program to run.
	Binary string
	// Name names the webhook configuration and the Secret; "evictgate" by default.
	Name string
	// CertNamespace is the namespace of the CA's Secret; "default" by default.
	CertNamespace string
	// Namespaces limits the gate to these; all by default.
	Namespaces []string
	// Policies registers the webhook of EvictionPolicies, too, for those with these labels; an empty selector
	// takes all, nil leaves the webhook out.
	Policies *metav1.LabelSelector
	// FailurePolicy is that of config/ by default, Fail.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// CABundle is set when the certificate comes from files; then the CA is not injected, and the path has a secret
	// from the start, as who installs writes it there.
	CABundle []byte
	// Service has the API server call the webhooks as a Service of this name in the namespace default, by
	// HTTP/1.1 as in every cluster, instead of by a URL, which it calls by HTTP/2 on localhost. Only a
	// Group makes that Service.
	Service string
	// Args are further arguments of serve, and Each those of the nth replica of a Group, counted from 0.
	Args []string
	Each func(n int) []string
}

// Gate is a running evictgate.
type Gate struct {
	// Listen, Metrics and Health are its addresses.
	Listen, Metrics, Health string

	options Options
	dir     string
	command *exec.Cmd
	stdout  *os.File
	exited  chan struct{}
	waitErr error
	stop    sync.Once
}

// Start registers and starts evictgate, and returns when it is ready. Nothing is left behind when it
// fails.
func Start(ctx context.Context, o Options) (*Gate, error) {
	g, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.options.register(ctx, g.Listen), g.launch()); err != nil {
		return nil, errors.Join(err, g.Stop())
	}
	if err := g.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, g.Stop())
	}
	return g, nil
}

// prepare chooses the addresses and makes the directory of a program that is not started yet.
func prepare(o Options) (*Gate, error) {
	if o.Name == "" {
		o.Name = "evictgate"
	}
	ports, err := kube.FreePorts(3)
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	dir, err := os.MkdirTemp("", "evictgate-gate-")
	if err != nil {
		return nil, err
	}
	return &Gate{options: o, dir: dir, Listen: address(0), Metrics: address(1), Health: address(2), exited: make(chan struct{})}, nil
}

// register creates the webhook configuration.
func (o *Options) register(ctx context.Context, listen string) error {
	configuration, err := o.Configuration(listen)
	if err != nil {
		return err
	}
	_, err = o.Plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, configuration, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("register the webhook: %w", err)
	}
	return nil
}

// unregister is the end of register.
func (o *Options) unregister() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return o.Plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, o.Name, metav1.DeleteOptions{})
}

// Configuration is that of config/webhook, for a server at that address and by the options; Name must be set.
func (o *Options) Configuration(listen string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	_, text, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, err
	}
	configuration, err := asInstalled()
	if err != nil {
		return nil, err
	}
	configuration.Name = o.Name
	for i := range configuration.Webhooks {
		hook := &configuration.Webhooks[i]
		path := *hook.ClientConfig.Service.Path
		if o.CABundle != nil {
			path += "/" + writtenSecret
		}
		hook.ClientConfig = o.called(int32(port), path)
		hook.FailurePolicy = new(cmp.Or(o.FailurePolicy, *hook.FailurePolicy))
	}
	evictions, policies := &configuration.Webhooks[0], &configuration.Webhooks[1]
	if len(o.Namespaces) > 0 {
		evictions.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpIn, Values: o.Namespaces,
		}}}
	}
	policies.ObjectSelector = o.Policies
	if o.Policies == nil {
		configuration.Webhooks = configuration.Webhooks[:1]
	}
	if o.CABundle == nil {
		configuration.Annotations = map[string]string{"cert-manager.io/inject-ca-from-secret": o.certNamespace() + "/" + o.Name}
	}
	return configuration, nil
}

// writtenSecret is the secret part of the paths that are written by hand.
const writtenSecret = "00112233445566778899aabbccddeeff"

// asInstalled reads what config/ installs: the webhook of evictions, and after it that of EvictionPolicies.
func asInstalled() (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	name := filepath.Join(kube.Root(), "config", "webhook", "configuration.yaml")
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(raw, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(c.Webhooks) != 2 || c.Webhooks[0].Name != "evictions.evictgate.dev" || c.Webhooks[1].Name != "policies.evictgate.dev" {
		return nil, fmt.Errorf("%s has not the webhooks of evictions and of policies", name)
	}
	return c, nil
}

func (o *Options) certNamespace() string { return cmp.Or(o.CertNamespace, "default") }

// called says how the API server calls a path.
func (o *Options) called(port int32, path string) admissionregistrationv1.WebhookClientConfig {
	c := admissionregistrationv1.WebhookClientConfig{CABundle: o.CABundle}
	if o.Service == "" {
		c.URL = new(fmt.Sprintf("https://localhost:%d%s", port, path))
		return c
	}
	c.Service = &admissionregistrationv1.ServiceReference{Namespace: "default", Name: o.Service, Path: &path, Port: &port}
	return c
}

// dnsName is what the API server calls the webhooks by.
func (o *Options) dnsName() string {
	if o.Service == "" {
		return "localhost"
	}
	return o.Service + ".default.svc"
}

func (g *Gate) launch() error {
	var err error
	if g.stdout, err = os.Create(filepath.Join(g.dir, "records.jsonl")); err != nil {
		return err
	}
	stderr, err := os.Create(filepath.Join(g.dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = stderr.Close() }()
	args := []string{
		"serve", "--kubeconfig", g.options.Plane.Kubeconfig, "--listen", g.Listen,
		"--metrics-listen", g.Metrics, "--health-listen", g.Health, "--shutdown-delay", "0s",
		"--webhook-configuration", g.options.Name, "--cert-secret", g.options.Name,
		"--cert-namespace", g.options.certNamespace(), "--dns-names", g.options.dnsName(),
		"--secret-path-secret", g.options.Name + "-path",
	}
	g.command = exec.Command(g.options.Binary, append(args, g.options.Args...)...)
	g.command.Stdout, g.command.Stderr = g.stdout, stderr
	if err := kube.Spawn(g.command); err != nil {
		g.command = nil
		return fmt.Errorf("start evictgate: %w", err)
	}
	go func() {
		g.waitErr = g.command.Wait()
		close(g.exited)
	}()
	return nil
}

// WaitReady waits until /readyz says so: for a minute, unless the context has another deadline.
func (g *Gate) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := kube.Wait(ctx, "evictgate to be ready", func(ctx context.Context) (bool, error) {
		select {
		case <-g.exited:
			cancel()
			return false, fmt.Errorf("evictgate ended: %w", g.waitErr)
		default:
		}
		text, code, err := Get(ctx, "http://"+g.Health+"/readyz?verbose")
		if err != nil {
			return false, err
		}
		if code != http.StatusOK {
			return false, errors.New(text)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, g.Log())
	}
	return nil
}

// Get returns the body and the code of an answer.
func Get(ctx context.Context, url string) (string, int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), response.StatusCode, err
}

// MetricsText is what /metrics says now.
func (g *Gate) MetricsText(ctx context.Context) (string, error) {
	text, code, err := Get(ctx, "http://"+g.Metrics+"/metrics")
	if err == nil && code != http.StatusOK {
		err = errors.New("status " + strconv.Itoa(code))
	}
	return text, err
}

// Log is what evictgate has logged.
func (g *Gate) Log() string {
	raw, _ := os.ReadFile(filepath.Join(g.dir, "log"))
	return string(raw)
}

// Records are the decisions recorded so far.
func (g *Gate) Records() ([]record.Record, error) {
	raw, err := os.ReadFile(filepath.Join(g.dir, "records.jsonl"))
	if err != nil {
		return nil, err
	}
	var records []record.Record
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r record.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("record %d: %w", len(records)+1, err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}

// RecordsOf are the records of one pod, once there is at least one.
func (g *Gate) RecordsOf(ctx context.Context, namespace, pod string) ([]record.Record, error) {
	var found []record.Record
	err := kube.Wait(ctx, "a record of "+namespace+"/"+pod, func(context.Context) (bool, error) {
		all, err := g.Records()
		found = slices.DeleteFunc(all, func(r record.Record) bool { return r.Request.Namespace != namespace || r.Request.Name != pod })
		return len(found) > 0, err
	})
	return found, err
}

// Terminate sends SIGTERM and waits for the end; its error is the program's.
func (g *Gate) Terminate() error {
	_ = g.command.Process.Signal(syscall.SIGTERM)
	<-g.exited
	return g.waitErr
}

// Kill ends the program at once, and leaves the webhook registered.
func (g *Gate) Kill() {
	_ = g.command.Process.Kill()
	<-g.exited
}

// Relaunch starts a program that has ended again, as it was started before, and returns when it is ready.
// Its log and its records begin anew.
func (g *Gate) Relaunch(ctx context.Context) error {
	_ = g.stdout.Close()
	g.exited = make(chan struct{})
	if err := g.launch(); err != nil {
		return err
	}
	return g.WaitReady(ctx)
}

// Stop ends the program, unregisters the webhook and removes the files.
func (g *Gate) Stop() error {
	var err error
	g.stop.Do(func() { err = errors.Join(g.options.unregister(), g.discard()) })
	return err
}

// discard ends the program and removes its files.
func (g *Gate) discard() error {
	if g.command != nil {
		timer := time.AfterFunc(10*time.Second, g.Kill)
		_ = g.Terminate()
		timer.Stop()
	}
	if g.stdout != nil {
		_ = g.stdout.Close()
	}
	return os.RemoveAll(g.dir)
}

// Exited is closed when the program has ended.
func (g *Gate) Exited() <-chan struct{} { return g.exited }

// Signal sends a signal to the program.
func (g *Gate) Signal(s syscall.Signal) error { return g.command.Process.Signal(s) }
