package faults

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// knocker sends reviews as the API server does, each over a connection of its own: the API server keeps its
// connections, which hides what a new one would meet. So it speaks for an API server that has just started.
type knocker struct {
	stage *stage
	name  string // what the webhook is called by
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu     sync.Mutex
	roots  *x509.CertPool
	made   int
	failed []unheard
	began  time.Time
}

// unheard is a review that was not answered.
type unheard struct {
	at  time.Time // it began
	why string
}

// knockEvery makes twenty connections a second.
const knockEvery = 50 * time.Millisecond

func (st *stage) knock(name string) *knocker {
	ctx, stop := context.WithCancel(st.Context())
	k := &knocker{stage: st, name: name, stop: stop, began: time.Now()}
	k.trust(ctx)
	k.work.Go(func() {
		tick := time.NewTicker(knockEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				k.work.Go(func() { k.once(ctx) })
			}
		}
	})
	st.Cleanup(k.end)
	return k
}

func (k *knocker) end() {
	k.stop()
	k.work.Wait()
}

// trust reads the caBundle, and keeps the last one while the API server is away.
func (k *knocker) trust(ctx context.Context) *x509.CertPool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	configuration, err := k.stage.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "evictgate", metav1.GetOptions{})
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.roots = x509.NewCertPool()
		k.roots.AppendCertsFromPEM(configuration.Webhooks[0].ClientConfig.CABundle)
	}
	return k.roots
}

func (k *knocker) once(ctx context.Context) {
	roots := k.trust(ctx)
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	err := k.post(context.WithoutCancel(ctx), roots)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made++
	if err != nil {
		why := fmt.Sprintf("after %s, in %s: %v", began.Sub(k.began).Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond), err)
		k.failed = append(k.failed, unheard{at: began, why: why})
	}
}

// post asks about a pod that does not exist, in a namespace whose records nobody counts. Any answer will do.
func (k *knocker) post(ctx context.Context, roots *x509.CertPool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	review := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"knock-%s","kind":{"group":"policy","version":"v1","kind":"Eviction"},
"resource":{"group":"","version":"v1","resource":"pods"},"subResource":"eviction","name":"none","namespace":"default","operation":"CREATE",
"userInfo":{"username":"knock"},"object":{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"none","namespace":"default"}},"dryRun":true}}`, rand.Text())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+k.stage.group.Balancer.Address+"/validate-eviction?timeout=5s", strings.NewReader(review))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: k.name, MinVersion: tls.VersionTLS12}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.Contains(string(body), `"uid":"knock-`) {
		err = errors.New(string(body))
	}
	return err
}
