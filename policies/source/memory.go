package source

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/evictgate/evictgate/policies"
)

// What a memory holds at most; beyond it, it forgets everything of the kind.
const (
	maxScreened = 4096
	maxCompiled = 256
	// maxSets is how many sets are kept: the one that serves, and the one before it or after it.
	maxSets = 2
)

// memory remembers what became of lists of units, by their content: each is screened and compiled once. It is
// safe for concurrent use.
type memory struct {
	// compile makes a set of units: CompileUnits, but for tests.
	compile func([]Unit) (*policies.Set, policies.Problems)

	mu    sync.Mutex
	ended map[content]bool  // lists that are compiled to an end
	never map[content]error // lists that are not within the limits
	// compiled has what is wrong with lists, which is nothing for those that are right; sets are the latest of those.
	compiled map[content]policies.Problems
	sets     []remembered
}

// content identifies a list of units.
type content [sha256.Size]byte

// remembered is the set of a list.
type remembered struct {
	content content
	set     *policies.Set
}

func newMemory() *memory {
	return &memory{
		compile: CompileUnits,
		ended:   map[content]bool{}, never: map[content]error{}, compiled: map[content]policies.Problems{},
	}
}

func contentOf(units []Unit) content {
	h := sha256.New()
	write := func(data []byte) {
		_ = binary.Write(h, binary.BigEndian, int64(len(data)))
		h.Write(data)
	}
	for _, u := range units {
		write([]byte(u.Name))
		_ = binary.Write(h, binary.BigEndian, int64(len(u.Files)))
		for _, f := range u.Files {
			write([]byte(f.Name))
			_ = binary.Write(h, binary.BigEndian, f.Object)
			write(f.Data)
		}
	}
	return content(h.Sum(nil))
}

// screened is what is remembered about a list: that it ends, or why it does not.
func (m *memory) screened(units []Unit) (ends bool, never error) {
	c := contentOf(units)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended[c], m.never[c]
}

// screen keeps an answer of the screen. One that says nothing about the units is not kept.
func (m *memory) screen(units []Unit, err error) {
	c := contentOf(units)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ended)+len(m.never) >= maxScreened {
		clear(m.ended)
		clear(m.never)
	}
	switch {
	case err == nil:
		m.ended[c] = true
	case errors.Is(err, ErrBeyondLimits):
		m.never[c] = err
	}
}

// problems says what is wrong with units as one set; keep says that the set will be asked for.
func (m *memory) problems(units []Unit, keep bool) policies.Problems {
	c := contentOf(units)
	m.mu.Lock()
	problems, ok := m.compiled[c]
	m.mu.Unlock()
	if !ok {
		_, problems = m.make(c, units, keep)
	}
	return problems
}

// set is that of units with which nothing is wrong; nil for others.
func (m *memory) set(units []Unit) *policies.Set {
	c := contentOf(units)
	m.mu.Lock()
	i := slices.IndexFunc(m.sets, func(r remembered) bool { return r.content == c })
	if i >= 0 {
		defer m.mu.Unlock()
		return m.sets[i].set
	}
	m.mu.Unlock()
	set, _ := m.make(c, units, true)
	return set
}

// make compiles units, and remembers what came of it; the set, if it is to be kept. No lock is held meanwhile.
func (m *memory) make(c content, units []Unit, keep bool) (*policies.Set, policies.Problems) {
	set, problems := m.compile(units)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.compiled) >= maxCompiled {
		clear(m.compiled)
	}
	m.compiled[c] = problems
	if keep && set != nil {
		m.sets = append(m.sets, remembered{c, set})
		m.sets = slices.Delete(m.sets, 0, max(0, len(m.sets)-maxSets))
	}
	return set, problems
}
