package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Unit is what a source offers as one: it is taken or left out as a whole.
type Unit struct {
	// Name is how messages call it, for example EvictionPolicy/night-freeze.
	Name  string
	Files []policies.File
}

// Verdict is what became of a unit.
type Verdict struct {
	// Problems say why the unit is not used as it is offered; empty when it is.
	Problems policies.Problems
	// Kept is true when its last good version goes on serving instead.
	Kept bool
	// Beyond is true when it could not be compiled to an end within the limits of the screen.
	Beyond bool
	// RightAlone is true when it has problems only beside the others.
	RightAlone bool
}

// Default is the source that offers the embedded library's default set. A policy of it that
// another source binds is left to that.
const Default = "default"

// Change is told when another set serves, or when something about a source has changed.
type Change struct {
	// Set serves now; nil while there is none.
	Set *policies.Set
	// Swapped is true when it did not serve before.
	Swapped bool
	// Verdicts are by source and unit.
	Verdicts map[string]map[string]Verdict
	// Err says what keeps the sources from serving as they are: a source that cannot be read, or
	// something a new set reads that cannot be.
	Err error
}

// retryAfter is when sources are looked at again after something outside of them failed.
const retryAfter = 15 * time.Second

// Sources make one Set of several sources, in order of precedence: of two units that cannot stand
// together the later one is left out, and said to be. A unit that turns bad is served in its last good
// version. The set is swapped as a whole; each review is decided by one.
type Sources struct {
	// Prepare sees to it that what a set reads is known, before it serves; nil when everything is.
	Prepare func(context.Context, *policies.Needs) error
	// Screen is asked about units before they are compiled as one set for the first time: nil when they can
	// be compiled to an end, with whatever problems, and ErrBeyondLimits when not. Any other error says that
	// it could not tell. Nil screens nothing. It is called without a lock held.
	Screen func(context.Context, []Unit) error
	// OnChange is told of changes, one after the other; it may be nil.
	OnChange func(Change)

	mu     sync.Mutex
	feeds  []*feed
	failed error // of the last load
	// puts counts what was handed over, and loaded what of it is told; settled is closed when that grows.
	puts, loaded int
	settled      chan struct{}
	wake         chan struct{}
	current      atomic.Pointer[policies.Set]
	told         Change
	seen         *memory
	merged       atomic.Pointer[merged]
}

// merged is what the sources offered when they were compiled last, with the verdicts.
type merged struct {
	feeds  []*feed
	offers []offer
}

// feed is one source, as far as it has delivered.
type feed struct {
	name      string
	essential bool
	delivered bool
	units     []Unit
	good      map[string]Unit
	err       error
}

// New has no source yet; see Add.
func New() *Sources {
	return &Sources{wake: make(chan struct{}, 1), settled: make(chan struct{}), seen: newMemory()}
}

// Add adds a source after the others. Nothing serves before it has delivered; when it is essential, not
// before its units are good, either.
func (s *Sources) Add(name string, essential bool) {
	s.feeds = append(s.feeds, &feed{name: name, essential: essential, good: map[string]Unit{}})
	if name == Default {
		s.Put(name, []Unit{{Name: Default}}, nil)
	}
}

// Put hands over all that a source offers now. With an error, what it offered before goes on.
func (s *Sources) Put(source string, units []Unit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feed(source)
	if f.delivered && (err != nil || reflect.DeepEqual(units, f.units)) && fmt.Sprint(err) == fmt.Sprint(f.err) {
		return
	}
	if f.err = err; err == nil {
		f.units, f.delivered = units, true
	}
	s.puts++
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (s *Sources) feed(name string) *feed {
	i := slices.IndexFunc(s.feeds, func(f *feed) bool { return f.name == name })
	return s.feeds[i] // a source that was not added is a mistake of the caller
}

// Current is the set that serves; nil while there is none.
func (s *Sources) Current() *policies.Set { return s.current.Load() }

// Ready is an error until a set serves.
func (s *Sources) Ready() error {
	if s.Current() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if !f.delivered {
			return errors.Join(fmt.Errorf("waiting for the policies of %s", f.name), f.err)
		}
	}
	if s.failed != nil {
		return s.failed
	}
	return errors.New("the policies are not loaded yet")
}

// NeedLeaderElection is false: every replica has its own.
func (*Sources) NeedLeaderElection() bool { return false }

// Start keeps the set up to date until ctx is done.
func (s *Sources) Start(ctx context.Context) error {
	for {
		var retry <-chan time.Time
		if s.load(ctx) {
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-retry:
		}
	}
}

// Begin says what is wrong with the essential sources that have delivered: an error of type Problems, or why
// their policies could not be screened. When nothing is waited for, the set serves from now on, before Start.
func (s *Sources) Begin(ctx context.Context) error {
	m := s.merge(ctx)
	var problems policies.Problems
	switch {
	case errors.As(m.err, &problems):
		return problems
	case m.failed != nil:
		return m.failed
	}
	if m.set != nil && s.prepare(canceled(), m.set) == nil {
		s.serve(m.set, m.verdicts, m.err)
	}
	return nil
}

// canceled is a context with which nothing is waited for.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// prepare sees to it that what a set that does not serve yet reads is known.
func (s *Sources) prepare(ctx context.Context, set *policies.Set) error {
	if s.Prepare == nil || s.serves(set) {
		return nil
	}
	return s.Prepare(ctx, set.Needs())
}

// serve lets a set serve, if there is one, and tells what has changed.
func (s *Sources) serve(set *policies.Set, verdicts map[string]map[string]Verdict, err error) {
	change := Change{Verdicts: verdicts, Err: err}
	if set != nil && !s.serves(set) {
		s.current.Store(set)
		change.Swapped = true
	}
	change.Set = s.Current()
	if change.Set != nil || err != nil { // else a source is waited for
		s.tell(change)
	}
}

// Compile makes the set of what the sources have delivered, once; nothing serves by it. Problems are those of
// units that are left out; the error says what keeps the sources from making a set at all.
func (s *Sources) Compile(ctx context.Context) (*policies.Set, policies.Problems, error) {
	m := s.merge(ctx)
	var left policies.Problems
	for _, o := range m.offers {
		left = append(left, o.verdict.Problems...)
	}
	return m.set, left, m.err
}

// load makes a set of what the sources offer now, and lets it serve. It reports whether to try again,
// though no source changes.
func (s *Sources) load(ctx context.Context) (again bool) {
	m := s.merge(ctx)
	if m.failed != nil {
		if ctx.Err() != nil {
			return false // the end
		}
		again, m.verdicts = true, s.told.Verdicts
	}
	if m.set != nil {
		if failed := s.prepare(ctx, m.set); failed != nil {
			m.set, m.err, again = nil, errors.Join(m.err, failed), true
		}
	}
	s.serve(m.set, m.verdicts, m.err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed, s.loaded = m.err, m.puts
	close(s.settled)
	s.settled = make(chan struct{})
	return again
}

// Settle waits until what was put before has become a change, or ctx is done. Start must be running.
func (s *Sources) Settle(ctx context.Context) {
	s.mu.Lock()
	want := s.puts
	s.mu.Unlock()
	for {
		s.mu.Lock()
		loaded, settled := s.loaded, s.settled
		s.mu.Unlock()
		if loaded >= want {
			return
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Sources) serves(set *policies.Set) bool {
	now := s.Current()
	return now != nil && now.Revision() == set.Revision()
}

// tell reports a change, but not the same twice.
func (s *Sources) tell(c Change) {
	same := !c.Swapped && fmt.Sprint(c.Err) == fmt.Sprint(s.told.Err) && reflect.DeepEqual(c.Verdicts, s.told.Verdicts)
	s.told = c
	if s.OnChange != nil && !same {
		s.OnChange(c)
	}
}

// outcome is what became of the sources in one merge.
type outcome struct {
	offers   []offer
	set      *policies.Set
	verdicts map[string]map[string]Verdict
	// err says what keeps the sources from serving as they are. failed is its part that says nothing about
	// the policies: they could not be screened.
	err, failed error
	puts        int
}

// snapshot copies what the sources offer, so that nobody waits for a compilation.
func (s *Sources) snapshot() (feeds []*feed, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		own := *f
		own.good = maps.Clone(f.good)
		maps.DeleteFunc(own.good, func(name string, _ Unit) bool { // what is offered no more
			return !slices.ContainsFunc(f.units, func(u Unit) bool { return u.Name == name })
		})
		feeds = append(feeds, &own)
	}
	return feeds, s.puts
}

// merge compiles what the sources offer. There is no set while a source is waited for.
func (s *Sources) merge(ctx context.Context) outcome {
	feeds, puts := s.snapshot()
	out := outcome{verdicts: map[string]map[string]Verdict{}, puts: puts}
	var errs []error
	missing := false
	for _, f := range feeds {
		if f.err != nil {
			errs = append(errs, f.err)
		}
		missing = missing || !f.delivered
		out.verdicts[f.name] = map[string]Verdict{}
		for _, u := range f.units {
			out.offers = append(out.offers, offer{feed: f, unit: u})
		}
	}
	m := merging{ctx: ctx, screen: s.Screen, seen: s.seen}
	out.set = m.merge(out.offers)
	if out.failed = m.failed; m.failed != nil {
		out.err = errors.Join(append(errs, m.failed)...)
		return out
	}
	var unusable policies.Problems
	for _, o := range out.offers {
		out.verdicts[o.feed.name][o.unit.Name] = o.verdict
		if len(o.verdict.Problems) == 0 {
			o.feed.good[o.unit.Name] = o.unit
		} else if o.feed.essential && !o.verdict.Kept {
			missing = true
			unusable = append(unusable, o.verdict.Problems...)
		}
	}
	if len(unusable) > 0 {
		errs = append(errs, unusable)
	}
	if missing {
		out.set = nil
	}
	out.err = errors.Join(errs...)
	s.keepGood(feeds)
	s.merged.Store(&merged{feeds: feeds, offers: out.offers})
	return out
}

// keepGood remembers the good versions of a merge.
func (s *Sources) keepGood(feeds []*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range feeds {
		s.feeds[i].good = maps.Clone(f.good)
	}
}

// Try says what would be wrong with a unit if its source offered it now, in the place of one with the
// same name.
func (s *Sources) Try(source string, unit Unit) policies.Problems {
	feeds, _ := s.snapshot()
	var before, after []offer
	added := false
	for _, f := range feeds {
		for _, u := range f.units {
			before = append(before, offer{feed: f, unit: u})
			if f.name == source && u.Name == unit.Name {
				u, added = unit, true
			}
			after = append(after, offer{feed: f, unit: u})
		}
		if f.name == source && !added {
			after = append(after, offer{feed: f, unit: unit})
		}
	}
	m := merging{ctx: context.Background(), screen: s.Screen, seen: s.seen}
	m.merge(before)
	m.merge(after)
	if m.failed != nil {
		return policies.Problems{{File: unit.Name, Message: m.failed.Error()}}
	}
	return compareOffers(before, after, source, unit.Name)
}

// compareOffers finds the problems of one unit, and of units that were good before it was there.
func compareOffers(before, after []offer, source, name string) policies.Problems {
	var problems policies.Problems
	for _, o := range after {
		if o.feed.name == source && o.unit.Name == name {
			problems = append(problems, o.verdict.Problems...)
			continue
		}
		was := slices.IndexFunc(before, func(b offer) bool { return b.feed == o.feed && b.unit.Name == o.unit.Name })
		if len(o.verdict.Problems) > 0 && was >= 0 && len(before[was].verdict.Problems) == 0 {
			problems = append(problems, policies.Problem{File: name, Message: fmt.Sprintf("it cannot stand beside %s of %s: %s", o.unit.Name, o.feed.name, why(o))})
		}
	}
	return problems
}

// why is the first problem of a unit, at its place in the unit.
func why(o offer) string {
	p := o.verdict.Problems[0]
	if p.File == o.unit.Name {
		return p.AtField()
	}
	return p.String()
}

// offer is a unit on its way into a set.
type offer struct {
	feed    *feed
	unit    Unit
	verdict Verdict
}

// mergeOffers compiles all units without a screen.
func mergeOffers(offers []offer) *policies.Set { return (&merging{seen: newMemory()}).merge(offers) }

// unitsOf lists the units that are accepted, in the order of offers; all of them without that.
func unitsOf(offers []offer, accepted []*Unit) []Unit {
	var units []Unit
	for i := range offers {
		switch {
		case accepted == nil:
			units = append(units, offers[i].unit)
		case accepted[i] != nil:
			units = append(units, *accepted[i])
		}
	}
	return units
}

// holds reports whether a problem's file is one of the unit's.
func (u Unit) holds(file string) bool {
	return slices.ContainsFunc(u.Files, func(f policies.File) bool { return file == f.Name })
}

// CompileUnits compiles units as one set, and says what is wrong with them. An earlier unit has precedence: of two that conflict the
// problem is the later one's.
func CompileUnits(units []Unit) (*policies.Set, policies.Problems) {
	var s Parsed
	var problems policies.Problems
	for _, u := range units {
		if u.Name == Default && u.Files == nil {
			s.Library = append(s.Library, defaultIDs()...)
			continue
		}
		problems = append(problems, s.addFiles(u.Files)...)
	}
	return s.Compile(problems)
}

// defaultIDs lists the policies of the default set. What they say of themselves is read without compiling them: each
// process that compiles a unit needs the list.
var defaultIDs = sync.OnceValue(func() []string {
	var ids []string
	for _, f := range policies.LibraryFiles() {
		module, _ := policies.Language().Parse(f)
		if module != nil && slices.ContainsFunc(module.Annotations, func(a *ast.Annotations) bool {
			return a.Scope == "package" && a.Custom["default"] == true
		}) {
			ids = append(ids, rego.PolicyID(module))
		}
	}
	return ids
})
