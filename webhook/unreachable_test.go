package webhook

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/evictgate/evictgate/webhook/hooks"
)

// stuck is an API server that waits for etcd.
type stuck struct{}

func (stuck) Pod(ctx context.Context, _, _ string) (*corev1.Pod, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (stuck) Budget(ctx context.Context, _, _ string) (*policyv1.PodDisruptionBudget, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAnAPIServerThatDoesNotAnswerLeavesTimeToDecide(t *testing.T) {
	for name, tt := range map[string]struct {
		pod     string
		code    int32
		message string
	}{
		"a budget's refusal stands as the cache has it":                   {"api-7d4b9c6f5-4c8tr", http.StatusTooManyRequests, "Budget shop/api needs 2 healthy of 3"},
		"a pod that nobody can look up is not admitted past its policies": {"too-young", http.StatusTooManyRequests, "could not decide this eviction: the pod is not known yet"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, io.Discard)
			g.Cluster.Live = stuck{}
			got := answer(t, post(front(g), hooks.EvictionsPath+"?timeout=2s", review(tt.pod, nil)))
			if got.Allowed || got.Result.Code != tt.code || !strings.Contains(got.Result.Message, tt.message) {
				t.Errorf("answered %t %d %q", got.Allowed, got.Result.Code, got.Result.Message)
			}
		})
	}
}
