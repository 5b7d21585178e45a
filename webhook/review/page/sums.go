package page

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/evictgate/evictgate/webhook/review/store"
)

// Sums over many decisions take CPU that decisions need. So the page may use a part of the time for one sum, however
// often it is asked for: one that took long is shown again for a multiple of what it took.
const (
	// quick is what a sum may take without being remembered.
	quick = 100 * time.Millisecond
	// rememberedFor is the multiple, up to maxRemembered.
	rememberedFor = 5
	maxRemembered = 15 * time.Second
	// maxSums bounds how many are remembered.
	maxSums = 64
)

// sums remembers what was asked for of late.
type sums struct {
	mu    sync.Mutex
	known map[string]total
}

type total struct {
	stats store.Stats
	until time.Time
}

// summed are the parameters that choose what is summed up.
var summed = []string{
	"since", "until", "tz", "namespace", "pod", "workload", "node", "evictor", "user", "policy", "budget", "outcome", "fate", "dry_runs", "episode",
}

// stats sums up what the query chooses.
func (p *Page) stats(ctx context.Context, q query) (store.Stats, error) {
	values := url.Values{}
	for _, name := range summed {
		values.Set(name, q.values.Get(name))
	}
	key, start := values.Encode(), time.Now()
	if s, ok := p.sums.get(key, start); ok {
		return s, nil
	}
	s, err := p.options.Store.Stats(ctx, q.filter)
	if took := time.Since(start); err == nil && took > quick {
		p.sums.put(key, total{s, time.Now().Add(min(rememberedFor*took, maxRemembered))})
	}
	return s, err
}

func (s *sums) get(key string, now time.Time) (store.Stats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[key]
	return known.stats, ok && now.Before(known.until)
}

func (s *sums) put(key string, one total) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxSums {
		s.known = map[string]total{}
	}
	s.known[key] = one
}
