package doctor

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/webhook"
)

const (
	// probePod is the pod that would be evicted; there is none of that name.
	probePod = "evictgate-doctor"
	// probesAtOnce make the API server open several connections, so that several replicas are asked.
	probesAtOnce = 6
	// maxProbes bounds the tries.
	maxProbes = 48
)

// probe sends dry-run evictions until each ready replica has answered, or enough were sent, or none passes.
func (r *Reader) probe(ctx context.Context, f *Facts) {
	wanted := max(1, len(f.readyPods()))
	seen := map[string]bool{}
	for len(f.Probes.Value) < maxProbes && len(seen) < wanted && ctx.Err() == nil {
		round := r.probeAtOnce(ctx, probesAtOnce)
		f.Probes.Value = append(f.Probes.Value, round...)
		answered := false
		for _, p := range round {
			if p.passed() {
				answered, seen[p.Explanation.Replica] = true, true
			}
		}
		if !answered {
			return
		}
	}
}

func (r *Reader) probeAtOnce(ctx context.Context, n int) []Probe {
	probes := make([]Probe, n)
	var sending sync.WaitGroup
	for i := range probes {
		sending.Go(func() { probes[i] = r.probeOnce(ctx) })
	}
	sending.Wait()
	return probes
}

func (r *Reader) probeOnce(ctx context.Context) Probe {
	var heard warnings
	p := Probe{Sent: time.Now()}
	err := r.client.PolicyV1().Evictions(r.ProbeNamespace).Evict(heard.listen(ctx), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.ProbeNamespace, Name: probePod, Annotations: map[string]string{webhook.ExplainAnnotation: "true"},
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
