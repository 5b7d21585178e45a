package evictionpolicy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

const (
	// DefaultInterval is how often counts are written.
	DefaultInterval = 30 * time.Second
	// sayAgain is when a replica looks once more whether its statement stands.
	sayAgain = 5 * time.Minute
	// requestWithin bounds one request.
	requestWithin = 5 * time.Second
)

// Status writes what became of the policies into their objects, and adds up how often they spoke.
//
// Every replica writes, and none leads. The counts add up, since each replica adds what it counted itself
// to what it reads, on exactly that version of the object. The conditions would not: two versions of the
// server, or two that are configured differently, may judge a policy differently for as long as both run.
// So a replica states its verdict when it is new to itself, once more five minutes later, by when the
// other may be gone, and whenever none is stored for the policy's generation; else it lets the other's
// stand. Who differs is overruled, but nobody fights.
type Status struct {
	// Interval is how often counts are written; DefaultInterval by default.
	Interval time.Duration

	watch *Watch
	log   *slog.Logger
	told  chan struct{} // holds one token when there are new verdicts
	// serving has the policies of the cluster that decide, by name.
	serving atomic.Pointer[map[string]types.UID]

	mu       sync.Mutex
	verdicts map[string]source.Verdict // by unit
	revision string
	tallies  map[counted]*tally

	// writing is held during a write, and guards what follows.
	writing    sync.Mutex
	statements map[string]statement // by policy
	said       map[string]saying
}

// counted is one life of a policy: a new one of the same name starts from zero.
type counted struct {
	policy string
	uid    types.UID
}

// saying is a statement that was made.
type saying struct {
	statement
	at time.Time
	// again says that it was repeated.
	again bool
}

// NewStatus prepares the writer of the statuses of watch's policies, before either starts.
func NewStatus(watch *Watch, log *slog.Logger) *Status {
	s := &Status{
		Interval: DefaultInterval, watch: watch, log: log, told: make(chan struct{}, 1),
		tallies: map[counted]*tally{}, said: map[string]saying{},
	}
	watch.handedOver = s.nudge
	return s
}

// NeedLeaderElection is false: every replica adds its own counts.
func (*Status) NeedLeaderElection() bool { return false }

// Verdicts takes what became of the units, by name, and the revision of the set they are part of; units of
// other sources are left alone. It must be called in the order of the sets, and about the units of a
// hand-over before the call that handed them over returns; it returns at once.
func (s *Status) Verdicts(verdicts map[string]source.Verdict, revision string) {
	s.mu.Lock()
	s.verdicts, s.revision = maps.Clone(verdicts), revision
	s.mu.Unlock()
	s.nudge()
}

func (s *Status) nudge() {
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// Serves reports whether decisions of the policy are counted: it is one of the cluster's, and serves.
func (s *Status) Serves(policy string) bool {
	serving := s.serving.Load()
	if serving == nil {
		return false
	}
	_, ok := (*serving)[policy]
	return ok
}

// Observe counts a decision. Dry runs do not count, and neither do policies of other sources.
func (s *Status) Observe(in *policies.Input, d *policies.Decision) {
	serving := s.serving.Load()
	if in.Request.DryRun || serving == nil || len(d.Violations)+len(d.Failures) == 0 {
		return
	}
	spoke := talliesOf(d, in.Now.Time)
	s.mu.Lock()
	defer s.mu.Unlock()
	for policy, t := range spoke {
		if uid, ok := (*serving)[policy]; ok {
			s.count(counted{policy, uid}, *t)
		}
	}
}

func (s *Status) count(key counted, t tally) {
	if s.tallies[key] == nil {
		s.tallies[key] = &tally{}
	}
	s.tallies[key].add(t)
}

// Start writes until ctx is done. Decisions may still be made then: who ends them flushes what is left.
func (s *Status) Start(ctx context.Context) error {
	// Replicas that start together should not write together.
	interval := time.NewTimer(s.pause())
	defer interval.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.told:
			s.announce(ctx)
		case <-interval.C:
			s.Flush(ctx)
			interval.Reset(s.pause())
		}
	}
}

// pause is the interval, give or take a fifth.
func (s *Status) pause() time.Duration {
	interval := s.Interval
	if interval <= 0 {
		interval = DefaultInterval
	}
	return time.Duration(float64(interval) * (0.8 + 0.4*rand.Float64()))
}

// announce writes the statements that are new, at once.
func (s *Status) announce(ctx context.Context) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.judge()
	for _, policy := range slices.Sorted(maps.Keys(s.statements)) {
		statement := s.statements[policy]
		if said, ok := s.said[policy]; ok && said.agrees(statement) {
			continue
		}
		s.write(ctx, policy, statement.uid, &statement, tally{})
	}
}

// Flush writes all that is not written yet: counts, revisions, and statements that are not there.
func (s *Status) Flush(ctx context.Context) {
	s.writing.Lock()
	defer s.writing.Unlock()
	tallies := s.take()
	for _, policy := range slices.Sorted(maps.Keys(s.statements)) {
		statement := s.statements[policy]
		key := counted{policy, statement.uid}
		t := tallies[key]
		delete(tallies, key)
		if said := s.due(policy, statement); said || !t.empty() {
			s.write(ctx, policy, statement.uid, only(said, statement), t)
		}
	}
	for key, t := range tallies { // a policy that serves no more, but is there
		s.write(ctx, key.policy, key.uid, nil, t)
	}
}

func only(wanted bool, s statement) *statement {
	if !wanted {
		return nil
	}
	return &s
}

// take empties the tallies.
func (s *Status) take() map[counted]tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := make(map[counted]tally, len(s.tallies))
	for key, t := range s.tallies {
		taken[key] = *t
	}
	clear(s.tallies)
	return taken
}

// due reports whether a statement is to be written beside the counts.
func (s *Status) due(policy string, statement statement) bool {
	said, ok := s.said[policy]
	if !ok || said.statement != statement || (!said.again && time.Since(said.at) > sayAgain) {
		return true
	}
	stored := s.watch.cached(policy)
	return stored != nil && !statement.observed(statusOf(stored))
}

// judge makes the statements from the latest verdicts. Those and the objects they are about fit together
// while nothing is handed over.
func (s *Status) judge() {
	s.watch.handing.Lock()
	handed := s.watch.handed
	s.mu.Lock()
	verdicts, revision := s.verdicts, s.revision
	s.mu.Unlock()
	s.watch.handing.Unlock()

	s.statements = make(map[string]statement, len(handed))
	serving := map[string]types.UID{}
	for policy, o := range handed {
		verdict, ok := verdicts[UnitName(policy)]
		if !ok {
			continue
		}
		made := stateOf(o, verdict, revision)
		s.statements[policy] = made
		if made.serves {
			serving[policy] = made.uid
		}
	}
	s.serving.Store(&serving)
	maps.DeleteFunc(s.said, func(policy string, _ saying) bool { _, ok := handed[policy]; return !ok })
}

// write puts a statement and a tally into one object. What could not be written is kept for the next time.
func (s *Status) write(ctx context.Context, policy string, uid types.UID, statement *statement, t tally) {
	if err := s.update(ctx, policy, uid, statement, t); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("status of a policy not written; it is tried again", "policy", policy, "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !t.empty() {
			s.count(counted{policy, uid}, t)
		}
		return
	}
	if statement != nil {
		before, ok := s.said[policy]
		again := ok && before.agrees(*statement) && (before.again || time.Since(before.at) > sayAgain)
		at := time.Now()
		if ok && before.agrees(*statement) {
			at = before.at
		}
		s.said[policy] = saying{statement: *statement, at: at, again: again}
	}
}

// conflicts is how an update waits for the others that write the same object: with many replicas each may
// lose several times.
func conflicts() wait.Backoff {
	return wait.Backoff{Steps: 8, Duration: 10 * time.Millisecond, Factor: 2, Jitter: 1}
}

// update reads, changes and writes one object until nobody else wrote in between.
func (s *Status) update(ctx context.Context, policy string, uid types.UID, statement *statement, t tally) error {
	if t.empty() && s.stands(policy, statement) {
		return nil
	}
	return retry.RetryOnConflict(conflicts(), func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.tryUpdate(ctx, policy, uid, statement, t)
	})
}

// tryUpdate makes one attempt. The end of ctx does not break it off, since it would not be known then
// whether the counts were added.
func (s *Status) tryUpdate(ctx context.Context, policy string, uid types.UID, statement *statement, t tally) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestWithin)
	defer cancel()
	live, err := s.watch.objects.Get(ctx, policy, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && live.GetUID() != uid) {
		return nil // there is nothing left to say it to
	}
	if err != nil {
		return explainStatus(err)
	}
	current := statusOf(live)
	patch, err := patchOf(live.GetResourceVersion(), current, change(current, statement, t, time.Now()))
	if err != nil || patch == nil {
		return err
	}
	_, err = s.watch.objects.Patch(ctx, policy, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "evictgate"}, "status")
	return explainStatus(err)
}

// stands reports whether the object, as last seen, says already what the statement says: usually another
// replica was first.
func (s *Status) stands(policy string, statement *statement) bool {
	stored := s.watch.cached(policy)
	if stored == nil || statement == nil || stored.GetUID() != statement.uid {
		return false
	}
	current := statusOf(stored)
	patch, err := patchOf("", current, change(current, statement, tally{}, time.Now()))
	return err == nil && patch == nil
}

// explainStatus says what to do about an error of the API server; a conflict stays one.
func explainStatus(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("allow get on evictionpolicies and patch on evictionpolicies/status: %w", err)
	}
	return err
}
