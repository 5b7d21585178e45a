package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
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

// policiesFlagHelp describes --policies of the commands that look once.
const policiesFlagHelp = "directories or files of policies, cluster (the EvictionPolicies) or default, the first having precedence; default: the embedded library's default set"

// policiesOf compiles the policies that --policies names, as serve would take them; the default set without
// any. What serve would leave out is told on standard error.
func policiesOf(ctx context.Context, names []string, kubeconfig string, offline bool, p printer) (*policies.Set, error) {
	if len(names) == 0 {
		return policies.Default()
	}
	sources := policies.NewSources()
	for _, name := range names {
		sources.Add(name, name != sourceCluster)
		if name == policies.SourceDefault {
			continue
		}
		units, err := unitsOf(ctx, name, kubeconfig, offline)
		if err != nil {
			return nil, err
		}
		sources.Put(name, units, nil)
	}
	set, left, err := sources.Compile()
	var problems policies.Problems
	switch {
	case errors.As(err, &problems):
		return nil, problems
	case err != nil:
		return nil, err
	case len(left) > 0:
		_, _ = fmt.Fprintf(p.err, "left out, as the server would:\n%s\n", left)
	}
	return set, nil
}

// unitsOf reads a source once.
func unitsOf(ctx context.Context, name, kubeconfig string, offline bool) ([]policies.Unit, error) {
	switch {
	case isURL(name):
		return nil, fmt.Errorf("--policies %s: bundles are for serve; download it and name the directory", name)
	case name == sourceCluster && offline:
		return nil, errors.New("--policies cluster needs a cluster; over a snapshot, give the EvictionPolicies as a file")
	case name == sourceCluster:
		config, _, err := connect(kubeconfig)
		if err != nil {
			return nil, err
		}
		return evictionpolicy.List(ctx, config)
	}
	files, err := policies.ReadPolicies(name)
	return []policies.Unit{{Name: name, Files: files}}, err
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
