package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/tracing"
)

// api reaches the API server; over a snapshot there is none.
type api struct {
	config *rest.Config
	client *kubernetes.Clientset
}

// reach reaches the cluster, unless a snapshot is served.
func (f *serveFlags) reach() (a api, err error) {
	if len(f.snapshots) == 0 {
		a.config, a.client, err = connect(f.kubeconfig)
	}
	return a, err
}

// connect reaches the cluster by a kubeconfig, or as the pod's service account without one.
func connect(kubeconfig string) (*rest.Config, *kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("find the cluster: %w; give --kubeconfig, or --snapshot to serve without one", err)
	}
	// The API server's priority and fairness limits us; a limit of our own would delay decisions.
	config.QPS = -1
	config.UserAgent = "evictgate/" + currentVersion().Version
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	return config, client, nil
}

// view is what is known of the cluster.
type view struct {
	gatherer *cluster.Gatherer
	// informed follows the cluster; nil over a snapshot.
	informed *cluster.Informed
}

// view reads the snapshot, or watches the cluster. What leaves counts as gone by the ledger.
func (f *serveFlags) view(api api, ledger *history.Ledger, tracer *tracing.Tracer, log *slog.Logger) (v view, err error) {
	if api.client == nil {
		v.gatherer, err = f.snapshot(log)
	} else if v.informed, err = cluster.Watch(api.client); err == nil {
		live := cluster.Client{Interface: api.client}
		v.gatherer = &cluster.Gatherer{Store: v.informed.Store, Live: webhook.TraceLive(live, tracer), Objects: live}
	}
	if err != nil {
		return v, err
	}
	v.gatherer.Leaving = ledger.Leaving
	v.gatherer.Evictors, err = policies.ReadEvictors(f.evictors)
	return v, err
}

func (f *serveFlags) snapshot(log *slog.Logger) (*cluster.Gatherer, error) {
	snapshot, err := cluster.ReadSnapshot(f.snapshots...)
	if err != nil {
		return nil, err
	}
	log.Info("read the snapshot", "objects", snapshot.Objects, "skipped", snapshot.Skipped)
	return &cluster.Gatherer{Store: snapshot.Store}, nil
}

// wantPatience is how long a new set of policies waits for what it is the first to read.
const wantPatience = 30 * time.Second

// want sees to it that what policies read is watched, too, or with full records everything; nil over a snapshot.
func (v view) want(full bool) func(context.Context, *policies.Needs) error {
	if v.informed == nil {
		return nil
	}
	return func(ctx context.Context, needs *policies.Needs) error {
		ctx, cancel := context.WithTimeout(ctx, wantPatience)
		defer cancel()
		if full {
			needs = policies.EverythingNeeded()
		}
		return v.informed.Want(ctx, needs)
	}
}
