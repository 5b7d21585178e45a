package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/hooks"
)

const (
	// probePod is the pod that would be evicted; there is none of that name.
	probePod = "evictgate-doctor"
	// probesAtOnce make the API server open several connections, so that several replicas are asked.
	probesAtOnce = 6
	// maxRounds bounds the tries.
	maxRounds = 8
)

// probe sends dry-run evictions until each ready replica has answered and each API server had its chance, or one does
// not pass, or enough were sent.
func (r *Reader) probe(ctx context.Context, f *Facts) {
	replicas, servers := max(1, len(f.readyPods())), endpoints(f.Servers.Value)
	seen := map[string]bool{}
	failed := false
	for n := 0; n < maxRounds && (n < servers || len(seen) < replicas) && !failed && ctx.Err() == nil; n++ {
		client, err := r.anew()
		if err != nil {
			f.Probes.Err = err
			return
		}
		for _, p := range probeAtOnce(ctx, client, f.ProbeNamespace) {
			if p.Code == 0 && ctx.Err() != nil {
				continue // the time is over, which says nothing of the gate
			}
			f.Probes.Value = append(f.Probes.Value, p)
			if p.passed() {
				seen[p.Explanation.Replica] = true
			} else {
				failed = true
			}
		}
	}
	if len(f.Probes.Value) == 0 {
		f.Probes.Err = ctx.Err()
	}
}

// anew is a client with a connection of its own, which may lead to another API server; a dialer of its own keeps it
// from using one that there is:
// https://github.com/kubernetes/client-go/blob/v0.37.2/transport/cache.go
func (r *Reader) anew() (kubernetes.Interface, error) {
	config := rest.CopyConfig(r.config)
	config.Dial = new(net.Dialer).DialContext
	return kubernetes.NewForConfig(config)
}

func probeAtOnce(ctx context.Context, client kubernetes.Interface, namespace string) []Probe {
	probes := make([]Probe, probesAtOnce)
	var sending sync.WaitGroup
	for i := range probes {
		sending.Go(func() { probes[i] = probeOnce(ctx, client, namespace) })
	}
	sending.Wait()
	return probes
}

func probeOnce(ctx context.Context, client kubernetes.Interface, namespace string) Probe {
	var heard warnings
	p := Probe{Sent: time.Now()}
	err := client.PolicyV1().Evictions(namespace).Evict(heard.listen(ctx), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: probePod, Annotations: map[string]string{webhook.ExplainAnnotation: "true"},
		},
		DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
	})
	p.Received = time.Now()
	if e, found := webhook.ReadExplanation(heard.list); found {
		p.Explanation = &e
	}
	var status apierrors.APIStatus
	switch {
	case err == nil: // there is such a pod after all
		p.Code = http.StatusCreated
	case errors.As(err, &status):
		p.Code, p.Reason, p.Message = status.Status().Code, string(status.Status().Reason), status.Status().Message
	default:
		p.Message = err.Error()
	}
	p.Message = hooks.MaskPath(p.Message) // it names the path when the gate did not answer
	return p
}

// warnings are those of one request.
type warnings struct{ list []string }

type warningsKey struct{}

func (w *warnings) listen(ctx context.Context) context.Context {
	return context.WithValue(ctx, warningsKey{}, w)
}

// hearing gives warnings to the request they belong to; nobody else is to see them.
type hearing struct{}

func (hearing) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if w, ok := ctx.Value(warningsKey{}).(*warnings); ok {
		w.list = append(w.list, text)
	}
}

// dates compares the API server's clock with this machine's, by the Date header of all answers.
type dates struct {
	mu   sync.Mutex
	span Span
}

func (d *dates) ahead() Span {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.span
}

// observe is for rest.Config.Wrap.
func (d *dates) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		sent := time.Now()
		resp, err := next.RoundTrip(req)
		if err != nil {
			return resp, err
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.span = d.span.and(ahead(date, time.Second, sent, time.Now()))
		}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
