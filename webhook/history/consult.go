package history

import "github.com/evictgate/evictgate/policies"

// Consult calls decide with in.History filled in, as Decide does, but remembers nothing and lets nobody wait: it
// is for decisions of which nothing may come.
func (l *Ledger) Consult(in *policies.Input, needs *policies.Needs, decide func() *policies.Decision) *policies.Decision {
	if l != nil && in.Pod != nil && needs.Reads("history") {
		l.mu.Lock()
		in.History = l.of(in, needs)
		l.mu.Unlock()
	}
	return decide()
}
