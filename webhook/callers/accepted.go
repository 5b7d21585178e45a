package callers

import (
	"crypto/subtle"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// validFor is how long a secret is accepted after it was replaced.
	validFor = time.Hour
	// maxReplaced bounds the replaced secrets that are remembered; there are more of them only when somebody
	// with rights keeps replacing them.
	maxReplaced = 16
)

// accepted are the secrets that the API server may call by. It is safe for concurrent use.
type accepted struct {
	list atomic.Pointer[[]entry]

	mu sync.Mutex
	// live are accepted until something takes their place, replaced until a time.
	live     map[string]bool
	replaced map[string]time.Time
}

type entry struct {
	secret string
	until  time.Time // zero: no end
}

// has compares in a time that does not depend on what the secrets are.
func (a *accepted) has(secret string, now time.Time) bool {
	list := a.list.Load()
	if list == nil {
		return false
	}
	found := 0
	for _, e := range *list {
		if e.until.IsZero() || now.Before(e.until) {
			found |= subtle.ConstantTimeCompare([]byte(e.secret), []byte(secret))
		}
	}
	return found == 1
}

// set takes the secrets that are live now. Those that were so far, and previous ones, go on to count for a while.
func (a *accepted) set(live []string, previous map[string]time.Time, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.replaced == nil {
		a.replaced = map[string]time.Time{}
	}
	for secret := range a.live {
		a.replaced[secret] = now.Add(validFor)
	}
	for secret, until := range previous {
		if secret != "" && until.After(a.replaced[secret]) {
			a.replaced[secret] = until
		}
	}
	a.live = map[string]bool{}
	for _, secret := range live {
		if secret != "" {
			a.live[secret] = true
		}
	}
	a.publish(now)
}

// publish makes the list that has looks at; a.mu is held.
func (a *accepted) publish(now time.Time) {
	var list []entry
	for secret := range a.live {
		delete(a.replaced, secret)
		list = append(list, entry{secret: secret})
	}
	newestFirst := slices.SortedFunc(maps.Keys(a.replaced), func(x, y string) int { return a.replaced[y].Compare(a.replaced[x]) })
	for i, secret := range newestFirst {
		until := a.replaced[secret]
		if i >= maxReplaced || !now.Before(until) {
			delete(a.replaced, secret)
			continue
		}
		list = append(list, entry{secret, until})
	}
	a.list.Store(&list)
}
