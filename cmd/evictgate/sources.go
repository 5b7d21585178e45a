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
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/bundle"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook"
)

// sourceCluster is the source of the cluster's EvictionPolicies.
const sourceCluster = "cluster"

// sourceFlags say where the server's policies come from.
type sourceFlags struct {
	policies []string

	bundleKey, bundleAlgorithm, bundleScope string
	bundleToken, bundleCA, bundleCache      string
	bundlePoll                              time.Duration
}

func (f *sourceFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.policies, "policies", nil, "where policies come from, the first having precedence: a directory or file, "+sourceCluster+" (the EvictionPolicies), "+source.Default+" (the embedded library's default set), or the URL of an OPA bundle (https://…, oci://…); default: "+source.Default)
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
	case offline && slices.Contains(f.policies, sourceCluster):
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
		s.Add(name, name != sourceCluster)
		var r manager.Runnable
		var err error
		switch {
		case name == source.Default || name == sourceCluster:
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

// teller says what becomes of the policies: to the log, the metrics and as Events.
type teller struct {
	log     *slog.Logger
	metrics *webhook.Metrics
	events  *webhook.Events // nil when there is no API server
	// configuration is the webhook configuration, which has the Events of sources outside the cluster.
	configuration string
}

func (t teller) change(c source.Change) {
	revision := "none"
	if c.Set != nil {
		revision = c.Set.Revision()
	}
	failed := c.Err != nil
	if failed {
		t.log.Error("policies cannot be read", "serving", revision, "error", c.Err.Error())
		t.events.PoliciesUnusable(t.regarding("", ""), "policies cannot be read: "+c.Err.Error())
	}
	for source, units := range c.Verdicts {
		for unit, v := range units {
			if len(v.Problems) > 0 {
				failed = true
				t.unusable(source, unit, v, revision)
			}
		}
	}
	t.metrics.Reloaded(revision, failed)
	if c.Swapped {
		t.log.Info("policies loaded", "revision", revision, "policies", policyNames(c.Set))
	}
}

// unusable tells of a unit that does not serve as it is offered.
func (t teller) unusable(source, unit string, v source.Verdict, revision string) {
	what := "policies left out"
	if v.Kept {
		what = "policies not reloaded; the last good revision goes on serving"
	}
	t.log.Error(what, "source", source, "name", unit, "serving", revision, "problems", v.Problems.Error())
	t.events.PoliciesUnusable(t.regarding(source, unit), fmt.Sprintf("%s: %s: %s", unit, what, v.Problems.Error()))
}

// regarding is the object that has the Event: an EvictionPolicy, or the webhook configuration.
func (t teller) regarding(source, unit string) *corev1.ObjectReference {
	if name, ok := strings.CutPrefix(unit, v1alpha1.Kind+"/"); ok && source == sourceCluster {
		return &corev1.ObjectReference{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.Kind, Name: name}
	}
	// Events about one object and field become a series, which keeps its first text.
	return &corev1.ObjectReference{
		APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration", Name: t.configuration, FieldPath: unit,
	}
}

func policyNames(set *policies.Set) string {
	var names []string
	for _, b := range set.Policies() {
		names = append(names, b.Name+"="+string(b.Enforcement))
	}
	return strings.Join(names, ",")
}
