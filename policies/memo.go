package policies

import (
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// memoEntries and memoBytes are how much a generation of a memo holds; there are two.
	memoEntries = 512
	memoBytes   = 512 << 10
	// memoLargest is how large an entry may be.
	memoLargest = 16 << 10
	// memoOverhead is what an entry takes beside its key and violations, roughly.
	memoOverhead = 100
)

// memo remembers what a bound policy answered. Its answer is a function of what it reads, and of the second
// when it asks the time: evictions that are tried again and again, and pods of one workload, are evaluated
// once. The keys are what the policy reads, in full. At least the last memoEntries are held, as long as they are not large: a generation that
// is full becomes the older one, whose place is given up. A memo is safe for concurrent use; nil remembers
// nothing.
type memo struct {
	mu            sync.Mutex
	recent, older map[string]remembered
	bytes         int // of recent
}

// remembered is one answer. Its violations are shared: they are copied before anybody has them.
type remembered struct {
	violations []Violation
	size       int
}

func (m *memo) get(key []byte) ([]Violation, bool) {
	if m == nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	answer, ok := m.recent[string(key)]
	if !ok {
		if answer, ok = m.older[string(key)]; ok {
			m.add(string(key), answer)
		}
	}
	return copyOf(answer.violations), ok
}

func (m *memo) put(key []byte, violations []Violation) {
	size := memoOverhead + len(key) + sizeOf(violations)
	if m == nil || size > memoLargest {
		return
	}
	answer := remembered{violations: copyOf(violations), size: size}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(string(key), answer)
}

func (m *memo) add(key string, answer remembered) {
	if m.recent == nil || len(m.recent) >= memoEntries || m.bytes+answer.size > memoBytes {
		m.recent, m.older, m.bytes = make(map[string]remembered, memoEntries), m.recent, 0
	}
	m.recent[key] = answer
	m.bytes += answer.size
}

// sizeOf is about as much as violations take.
func sizeOf(violations []Violation) int {
	if len(violations) == 0 {
		return 0
	}
	raw, err := json.Marshal(violations)
	if err != nil {
		return memoLargest
	}
	return 4 * len(raw) // maps and interfaces take more than their text
}

// copyOf shares nothing that could be changed.
func copyOf(violations []Violation) []Violation {
	list := slices.Clone(violations)
	for i := range list {
		list[i].Detail, _ = copyValue(list[i].Detail).(map[string]any)
	}
	return list
}

func copyValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = copyValue(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = copyValue(v[i])
		}
		return list
	}
	return v
}

// remember prepares the memo of a policy that reads these refs, if its answers can come again: the review's
// id never does.
func (s *Set) remember(p *boundPolicy, refs []ast.Ref) {
	if p.needs.Reads("request", "uid") {
		return
	}
	for _, ref := range refs {
		if ref.HasPrefix(ast.InputRootRef) && !ref.HasPrefix(parametersRef) {
			p.leaves = append(p.leaves, s.needs.covering(ref))
		}
	}
	slices.Sort(p.leaves)
	p.leaves = slices.Compact(p.leaves)
	p.memo, p.timed = &memo{}, s.asks(p, clocks)
}

// key appends what the policy reads of an input. The parameters are always the same.
func (p *boundPolicy) key(dst []byte, in *projection) []byte {
	for _, leaf := range p.leaves {
		dst = append(append(dst, in.at(leaf)...), 0) // no JSON has a zero byte
	}
	return dst
}

// atSecond appends the time as a policy can ask it.
func atSecond(key []byte, now time.Time) []byte {
	return strconv.AppendInt(key, now.Unix(), 10)
}
