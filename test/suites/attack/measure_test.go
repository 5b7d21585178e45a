package attack

import (
	"fmt"
	"testing"
	"time"
)

const (
	// worst is by how much reviews may take longer under an attack than without it.
	worst = 3
	// floor is what counts as quiet at least: below it, the ratio is about the machine's own moments.
	floor = 15 * time.Millisecond
)

// latency is the 99th percentile of ordinary reviews, the median of the rounds: while nothing else goes on, while
// the same load goes to a server that does nothing with it, and under the attack.
type latency struct{ quiet, harmless, attacked time.Duration }

// base is what the attack is compared with: the load that hurts nobody, or quiet where there is none.
func (l latency) base() time.Duration {
	if l.harmless > 0 {
		return max(l.harmless, floor)
	}
	return max(l.quiet, floor)
}

func (l latency) bearable() bool { return l.attacked < worst*l.base() }

func (l latency) String() string {
	return fmt.Sprintf("p99 %s quiet, %s with as much harmless load, %s under attack", milli(l.quiet), milli(l.harmless), milli(l.attacked))
}

func milli(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// measure floods the subject in some rounds, beside honest reviews, and returns what was sent.
func (st *stage) measure(h *honest, f flood) (latency, sent) {
	st.Helper()
	n, window := rounds()
	if f.once && !*quick {
		n, window = 1, 3*time.Second
	}
	var quiet, harmless, attacked []time.Duration
	all := sent{Codes: map[string]int64{}}
	for range n {
		quiet = append(quiet, p99(h.during(window)))
		if !f.alone {
			took, _ := st.under(h, st.harmless(f), window)
			harmless = append(harmless, took)
		}
		took, s := st.under(h, f, window)
		attacked = append(attacked, took)
		all.add(s)
		if !h.subject.alive() {
			break
		}
	}
	return latency{median(quiet), median(harmless), median(attacked)}, all
}

// harmless is what a flood is compared with.
func (st *stage) harmless(f flood) flood {
	st.Helper()
	if f.harmless != nil {
		return *f.harmless
	}
	f.Address = st.sink(st.T)
	return f
}

func (s *sent) add(o sent) {
	s.Sent, s.Answered, s.Refused = s.Sent+o.Sent, s.Answered+o.Answered, s.Refused+o.Refused
	for code, n := range o.Codes {
		s.Codes[code] += n
	}
	if o.Note != "" {
		s.Note = o.Note
	}
}

func (s sent) String() string {
	text := fmt.Sprintf("%d sent", s.Sent)
	if s.Answered > 0 {
		text += fmt.Sprintf(", answered %v", s.Codes)
	}
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d connections refused or ended (%s)", s.Refused, s.Note)
	}
	return text
}

// under is what honest reviews take while a flood goes on.
func (st *stage) under(h *honest, f flood, window time.Duration) (time.Duration, sent) {
	st.Helper()
	f.Lasts = window + 200*time.Millisecond
	attacker := help(st.T, "flood", f, "10")
	time.Sleep(100 * time.Millisecond)
	took := h.during(window)
	return p99(took), attacker.result(st.T)
}

func p99(figures []time.Duration) time.Duration { return quantile(figures, 0.99) }

// withstands floods a subject beside honest reviews, and holds it to all that must remain. Figures that the
// machine's own moments made are measured once more before they count.
func (st *stage) withstands(s *subject, h *honest, f flood) sent {
	st.Helper()
	if f.Address == "" {
		f.Address, f.Path = s.listen, s.path+"?timeout=30s"
	}
	l, all := st.measure(h, f)
	for again := 0; !l.bearable() && again < 2 && s.alive() && !*quick; again++ {
		st.Logf("once more, after %s", l)
		var more sent
		l, more = st.measure(h, f)
		all.add(more)
	}
	st.Logf("%s; %s", all, l)
	if !l.bearable() && !*quick {
		st.Errorf("%s: more than %d times as long", l, worst)
	}
	st.row.latency = l
	st.row.sent += all.Sent
	st.unharmed(s, h)
	return all
}

// unharmed holds the subject to what must remain: it runs, within its memory, and was right and exact.
func (st *stage) unharmed(s *subject, h *honest) {
	st.Helper()
	if h != nil {
		h.right(st.T)
	}
	st.lives(s)
	if h != nil {
		h.mu.Lock()
		answered := h.answered
		h.mu.Unlock()
		s.exact(answered)
	}
}

// lives holds a subject to its life and its memory.
func (st *stage) lives(s *subject) {
	st.Helper()
	time.Sleep(100 * time.Millisecond) // for the box to look again
	st.row.memory = max(st.row.memory, s.box.most.Load())
	if n := s.box.kills(); n > 0 || !s.alive() {
		st.row.died = true
		st.Errorf("the program has ended; %d processes were ended for memory", n)
	}
	if st.row.memory >= memoryLimit {
		st.Errorf("%d MiB of resident memory, at most %d may be", st.row.memory>>20, memoryLimit>>20)
	}
}

// stage is one attack's part.
type stage struct {
	*testing.T
	*world
	row *row
}
