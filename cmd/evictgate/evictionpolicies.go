package main

import (
	"context"
	"log/slog"
	"net/http"

	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
)

// addEvictionPolicies follows the cluster's EvictionPolicies as a source, checks them before they are
// stored, and writes their status.
func addEvictionPolicies(o *webhook.ServerOptions, config *rest.Config, sources *policies.Sources, log *slog.Logger) (*evictionpolicy.Status, error) {
	watch, err := evictionpolicy.NewWatch(config, log, func(ctx context.Context, units []policies.Unit) {
		sources.Put(sourceCluster, units, nil)
		sources.Settle(ctx)
	})
	if err != nil {
		return nil, err
	}
	status := evictionpolicy.NewStatus(watch, log)
	validator := evictionpolicy.Validator{
		Check: func(u policies.Unit) policies.Problems { return sources.Try(sourceCluster, u) },
		Lint:  func(u policies.Unit) policies.Problems { return policies.Lint(u.Files) },
		Log:   log,
	}
	o.Handlers = map[string]http.Handler{evictionpolicy.Path: validator.Handler()}
	o.Runnables = append(o.Runnables, watch, status)
	o.Checks["evictionpolicies"] = watch.Ready
	return status, nil
}
