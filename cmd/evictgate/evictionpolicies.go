package main

import (
	"context"
	"log/slog"
	"net/http"

	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// addEvictionPolicies follows the cluster's EvictionPolicies as a source, checks them before they are
// stored, and writes their status.
func addEvictionPolicies(o *webhook.ServerOptions, config *rest.Config, sources *source.Sources, compiler *confined.Compiler, log *slog.Logger) (*evictionpolicy.Status, error) {
	watch, err := evictionpolicy.NewWatch(config, log, func(ctx context.Context, units []source.Unit) {
		sources.Put(evictionpolicy.Source, units, nil)
		sources.Settle(ctx)
	})
	if err != nil {
		return nil, err
	}
	status := evictionpolicy.NewStatus(watch, log)
	validator := evictionpolicy.Validator{
		Check: func(ctx context.Context, u source.Unit) (check.Findings, error) {
			trial, err := sources.Trial(evictionpolicy.Source, u)
			if err != nil {
				return check.Findings{}, err
			}
			return compiler.Try(ctx, trial)
		},
		Log: log,
	}
	o.Handlers = map[string]http.Handler{hooks.PoliciesPath: validator.Handler()}
	o.Runnables = append(o.Runnables, watch, status)
	o.Checks["evictionpolicies"] = watch.Ready
	return status, nil
}
