package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// readWorld reads the cluster that a command looks at, once: files, or what needs says from the API
// server.
func readWorld(ctx context.Context, kubeconfig string, snapshots []string, needs *policies.Needs) (*cluster.Snapshot, error) {
	if kubeconfig != "" && len(snapshots) > 0 {
		return nil, errors.New("--kubeconfig and --snapshot exclude each other")
	}
	if len(snapshots) > 0 {
		return cluster.ReadSnapshot(snapshots...)
	}
	_, client, err := connect(kubeconfig)
	if err != nil {
		return nil, err
	}
	return cluster.ReadLive(ctx, client, needs)
}

// policiesOf compiles the policies of the paths, or the default set without any.
func policiesOf(paths []string) (*policies.Set, error) {
	if len(paths) == 0 {
		return policies.Default()
	}
	return policies.Load(paths...)
}

// decisionTime is what --at says, or now.
func decisionTime(at string) (time.Time, error) {
	if at == "" {
		return time.Now().UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, fmt.Errorf("--at is %q; expected a time as RFC 3339 has it, such as 2026-11-02T08:00:00Z", at)
	}
	return t, nil
}
