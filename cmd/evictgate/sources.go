package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/bundle"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
)

// sourceFlags say where the server's policies come from.
type sourceFlags struct {
	policies []string

	bundleKey, bundleAlgorithm, bundleScope string
	bundleToken, bundleCA, bundleCache      string
	bundlePoll                              time.Duration
}

func (f *sourceFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.policies, "policies", nil, "where policies come from, the first having precedence: a directory or file, "+evictionpolicy.Source+" (the EvictionPolicies), "+source.Default+" (the embedded library's default set), or the URL of an OPA bundle (https://…, oci://…); default: "+source.Default)
	flags.StringVar(&f.bundleKey, "bundle-key", "", "PEM public key that bundles must be signed with; default: bundles need not be signed")
	flags.StringVar(&f.bundleAlgorithm, "bundle-algorithm", "", "algorithm of the signature, such as PS256; default: by the key")
	flags.StringVar(&f.bundleScope, "bundle-scope", "", "scope that the signature must have")
	flags.StringVar(&f.bundleToken, "bundle-token-file", "", "file with the bearer token, or user:password, for the bundle's server")
	flags.StringVar(&f.bundleCA, "bundle-ca", "", "PEM certificates to trust for the bundle's server, beside the system's")
	flags.StringVar(&f.bundleCache, "bundle-cache", "", "directory that keeps the last good bundle, to start with while its server is away")
	flags.DurationVar(&f.bundlePoll, "bundle-poll", time.Minute, "how often to look for a new bundle; up to twice as long passes")
}

// names are the sources in order of precedence.
func (f *sourceFlags) names() []string {
	if len(f.policies) == 0 {
		return []string{source.Default}
	}
	return f.policies
}

func isURL(source string) bool { return strings.Contains(source, "://") }

func (f *sourceFlags) validate(offline bool) error {
	for i, name := range f.policies {
		if slices.Contains(f.policies[:i], name) {
			return fmt.Errorf("--policies %s is given twice", name)
		}
	}
	switch {
	case offline && slices.Contains(f.policies, evictionpolicy.Source):
		return errors.New("--policies cluster needs a cluster; over a snapshot, give the EvictionPolicies as a file")
	case f.bundlePoll <= 0:
		return fmt.Errorf("--bundle-poll is %s; expected more than 0s", f.bundlePoll)
	case f.bundleKey != "" && !slices.ContainsFunc(f.policies, isURL):
		return errors.New("--bundle-key is for the bundles that --policies names by URL, and there is none")
	}
	return nil
}

// addTo adds every source but the cluster's own objects to the sources, and returns what must run.
func (f *sourceFlags) addTo(ctx context.Context, s *source.Sources, log *slog.Logger) ([]manager.Runnable, error) {
	var running []manager.Runnable
	for _, name := range f.names() {
		s.Add(name, name != evictionpolicy.Source)
		var r manager.Runnable
		var err error
		switch {
		case name == source.Default || name == evictionpolicy.Source:
			continue
		case isURL(name):
			r, err = f.addBundle(s, name, log)
		default:
			r, err = source.OpenDirectory(name, func(files []policies.File, err error) {
				s.Put(name, []source.Unit{{Name: name, Files: files}}, err)
			})
		}
		if err != nil {
			return nil, err
		}
		running = append(running, r)
	}
	return running, s.Begin(ctx)
}

func (f *sourceFlags) addBundle(s *source.Sources, url string, log *slog.Logger) (manager.Runnable, error) {
	return bundle.New(bundle.Options{
		URL: url, PublicKey: f.bundleKey, Algorithm: f.bundleAlgorithm, Scope: f.bundleScope,
		TokenFile: f.bundleToken, CAFile: f.bundleCA, Cache: f.bundleCache,
		MinPoll: f.bundlePoll, MaxPoll: 2 * f.bundlePoll, Log: log,
	}, func(files []policies.File, err error) bool {
		unit := source.Unit{Name: url, Files: files}
		s.Put(url, []source.Unit{unit}, err)
		return err == nil && len(s.Try(url, unit)) == 0
	})
}

// sources are where policies come from.
type sources struct {
	*source.Sources
	// running has what each of them needs, and them.
	running []manager.Runnable
	// cluster are the EvictionPolicies; nil without them among the sources.
	cluster *evictionpolicy.Followed
}

// open begins with the sources; want sees to it that what a set reads is watched.
func (f *sourceFlags) open(ctx context.Context, api api, want func(context.Context, *policies.Needs) error, compiler *confined.Compiler, tell evictionpolicy.Teller) (sources, error) {
	s := sources{Sources: source.New()}
	s.Prepare, s.Screen, s.OnChange = want, compiler.Screen, tell.Change
	running, err := f.addTo(ctx, s.Sources, tell.Log)
	if err != nil {
		return s, err
	}
	s.running = append(s.running, running...)
	s.running = append(s.running, s.Sources)
	if !slices.Contains(f.names(), evictionpolicy.Source) {
		return s, nil
	}
	if s.cluster, err = evictionpolicy.Follow(api.config, s.Sources, compiler.Try, tell); err != nil {
		return s, err
	}
	s.running = append(s.running, s.cluster.Watch, s.cluster.Status)
	return s, nil
}
