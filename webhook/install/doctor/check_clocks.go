package doctor

import (
	"slices"
	"time"

	"github.com/evictgate/evictgate/policies/output"
)

// tolerance is how far clocks may be apart: certificates are served two seconds after they were made.
const tolerance = 2 * time.Second

// checkClocks compares the API server's clock with those of the replicas and of this machine. Certificates are
// judged by the first, and policies see the time of the second.
func checkClocks(f *Facts, l *findings) {
	const check = "clock"
	if !f.ServerAhead.Known {
		l.skip(check, "the API server's answers have no date")
		return
	}
	apart := false
	byReplica := map[string]Span{}
	var names []string
	for _, p := range f.Probes.Value {
		if e := p.Explanation; e != nil {
			if _, seen := byReplica[e.Replica]; !seen {
				names = append(names, e.Replica)
			}
			byReplica[e.Replica] = byReplica[e.Replica].and(ahead(e.Now, time.Millisecond, p.Sent, p.Received))
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if least := byReplica[name].minus(f.ServerAhead).least(); least.Abs() > tolerance {
			apart = true
			l.warn(check, "the clock of replica %s is at least %s the API server's: certificates and time windows of policies depend on it", name, offset(least)).
				cure("set the clocks of the nodes by NTP").run("kubectl -n %s get pods -o wide", f.Namespace) // its name is its own word
		}
	}
	if least := f.ServerAhead.least(); least.Abs() > tolerance {
		apart = true
		l.warn(check, "the API server's clock is at least %s this machine's: what is said here of ages and expiry is off by that", offset(least)).
			cure("set the clock of whichever is wrong by NTP")
	}
	switch {
	case apart:
	case len(names) == 0:
		l.ok(check, "the clocks of the API server and of this machine agree within %s", tolerance)
	default:
		l.ok(check, "the clocks of the API server, of %d %s and of this machine agree within %s", len(names), output.Plural("replica", len(names)), tolerance)
	}
}

// offset is a difference in words.
func offset(d time.Duration) string {
	if d < 0 {
		return (-d).Round(100*time.Millisecond).String() + " behind"
	}
	return d.Round(100*time.Millisecond).String() + " ahead of"
}
