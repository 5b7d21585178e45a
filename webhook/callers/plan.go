package callers

import (
	"slices"
	"time"
)

const (
	// lag is how long a next secret is accepted before the API server calls by it: longer than a replica's watch
	// of the Secret may be behind.
	lag = 30 * time.Second
	// MinRotation is the shortest life of a secret: a replaced one must be forgotten before the next.
	MinRotation = 10 * time.Minute
)

// state is what the Secret holds. The zero value is that of one with nothing in it.
type state struct {
	current, next, previous string
	// since is when current became that, nextSince when next was written.
	since, nextSince time.Time
}

// step is what is to be done now: one write at most.
type step struct {
	// write is the new state; nil leaves the Secret alone.
	write *state
	// patch says that the webhooks are to be called by secret, or by none if that is empty.
	patch  bool
	secret string
	// wait is how long nothing is to be done, unless something changes.
	wait time.Duration
}

// surroundings are what a step depends on beside the Secret.
type surroundings struct {
	// carried are the secrets of our webhooks in the configuration, empty for one that has none.
	carried []string
	// before is the last current secret that this replica knew, for when the Secret was deleted.
	before string
	// older says that there are replicas that know no secret.
	older    bool
	now      time.Time
	rotation time.Duration
	fresh    func() string
}

// plan is the protocol, see the package comment: what to do next when the Secret holds s. Any replica may do it
// at any time, if its writes fail when what it saw has changed.
func plan(s state, around surroundings) step {
	carry := func(secret string) bool {
		return !slices.ContainsFunc(around.carried, func(c string) bool { return c != secret })
	}
	if around.older {
		if carry("") {
			return step{wait: recheck}
		}
		return step{patch: true}
	}
	due := s.nextSince.Add(lag)
	target := s.current
	if s.next != "" && (s.current == "" || !around.now.Before(due)) {
		target = s.next
	}
	switch {
	case s.current == "" && s.next == "":
		// What the API server calls by now stays valid until it calls by the new one.
		return step{write: &state{current: common(around.carried), previous: around.before, next: around.fresh(), nextSince: around.now, since: around.now}}
	case s.next != "" && carry(s.next):
		return step{write: &state{current: s.next, previous: s.current, since: around.now}}
	case !carry(target):
		return step{patch: true, secret: target}
	case s.next != "":
		return step{wait: due.Sub(around.now)}
	}
	if end := s.since.Add(around.rotation); around.now.Before(end) {
		return step{wait: min(recheck, end.Sub(around.now))}
	}
	return step{write: &state{current: s.current, previous: s.previous, since: s.since, next: around.fresh(), nextSince: around.now}}
}

// common is the secret that all webhooks are called by; empty when there is no such one.
func common(carried []string) string {
	if distinct := slices.Compact(slices.Sorted(slices.Values(carried))); len(distinct) == 1 {
		return distinct[0]
	}
	return ""
}
