package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
)

// lookFlags are those of the commands that decide without evicting: which cluster they look at, by which
// policies, when, and who would evict.
type lookFlags struct {
	kubeconfig string
	snapshots  []string
	policies   []string
	as         policies.User
	evictors   string
	at         string
}

func (f *lookFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "reach the cluster by this kubeconfig; default: the pod's service account")
	flags.StringSliceVar(&f.snapshots, "snapshot", nil, "look at these files instead of a cluster; - is stdin")
	flags.StringSliceVar(&f.policies, "policies", nil, "directories or files of policies, cluster (the EvictionPolicies) or default, the first having precedence; default: the embedded library's default set")
	flags.StringVar(&f.as.Username, "as", "kubernetes-admin", "the user who would evict")
	flags.StringSliceVar(&f.as.Groups, "as-group", []string{"system:masters", "system:authenticated"}, "the groups of that user")
	flags.StringVar(&f.evictors, "evictors", "", "file with rules that name who evicts, before the default ones")
	flags.StringVar(&f.at, "at", "", "decide as at this time, RFC 3339; default: now")
}

func (f *lookFlags) offline() bool { return len(f.snapshots) > 0 }

// world reads the cluster once: files, or what needs says from the API server.
func (f *lookFlags) world(ctx context.Context, needs *policies.Needs) (*cluster.Snapshot, error) {
	if f.kubeconfig != "" && f.offline() {
		return nil, errors.New("--kubeconfig and --snapshot exclude each other")
	}
	if f.offline() {
		return cluster.ReadSnapshot(f.snapshots...)
	}
	_, client, err := connect(f.kubeconfig)
	if err != nil {
		return nil, err
	}
	return cluster.ReadLive(ctx, client, needs)
}

// set compiles the policies as serve would take them. What serve would leave out is told on standard
// error.
func (f *lookFlags) set(ctx context.Context, p output.Printer) (*policies.Set, error) {
	if len(f.policies) == 0 {
		return policies.Default()
	}
	sources := source.New()
	sources.Screen = confined.New(confined.Limits{}, slog.New(slog.NewTextHandler(p.Err, nil))).Screen
	for _, name := range f.policies {
		sources.Add(name, name != evictionpolicy.Source)
		if name == source.Default {
			continue
		}
		units, err := f.units(ctx, name)
		if err != nil {
			return nil, err
		}
		sources.Put(name, units, nil)
	}
	set, left, err := sources.Compile(ctx)
	var problems policies.Problems
	switch {
	case errors.As(err, &problems):
		return nil, problems
	case err != nil:
		return nil, err
	case len(left) > 0:
		p.Aside("left out, as the server would:\n%s\n", left)
	}
	return set, nil
}

// units reads a source once.
func (f *lookFlags) units(ctx context.Context, name string) ([]source.Unit, error) {
	switch {
	case isURL(name):
		return nil, fmt.Errorf("--policies %s: bundles are for serve; download it and name the directory", name)
	case name == evictionpolicy.Source && f.offline():
		return nil, errors.New("--policies cluster needs a cluster; over a snapshot, give the EvictionPolicies as a file")
	case name == evictionpolicy.Source:
		config, _, err := connect(f.kubeconfig)
		if err != nil {
			return nil, err
		}
		return evictionpolicy.List(ctx, config)
	}
	files, err := source.Read(name)
	return []source.Unit{{Name: name, Files: files}}, err
}

// time is what --at says, or now.
func (f *lookFlags) time() (time.Time, error) {
	if f.at == "" {
		return time.Now().UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, f.at)
	if err != nil {
		return t, fmt.Errorf("--at is %q; expected a time as RFC 3339 has it, such as 2026-11-02T08:00:00Z", f.at)
	}
	return t, nil
}
