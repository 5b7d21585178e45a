package main

import (
	"slices"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/install/rights"
	"github.com/evictgate/evictgate/webhook/review/page"
)

// rules are what `evictgate serve` with these flags must be allowed; needs says what its policies read.
func (f *serveFlags) rules(needs *policies.Needs) rights.Rules {
	if f.records.full() {
		needs = policies.EverythingNeeded()
	}
	s := rights.Serving{
		Needs: needs, Configuration: f.webhookConfiguration, Owner: f.certNamespace, Ties: f.registration.ties(f.certs),
		EvictionPolicies: slices.Contains(f.sources.names(), evictionpolicy.Source),
		Tokens:           f.metricsAuth || (f.page.on() && !page.Loopback(f.page.listen)),
	}
	if f.certs == "self" {
		s.CASecret = f.certSecret
	}
	if f.pathMode() == pathKeep {
		s.PathSecret = f.path.secret
	}
	return s.Rules()
}
