package records

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/postgres"
)

// database is an empty one on a server of its own.
func database(t *testing.T) (*postgres.Server, string) {
	t.Helper()
	server := postgres.ForTest(t)
	url, err := server.CreateDatabase(t.Context(), "evictgate")
	if err != nil {
		t.Fatal(err)
	}
	return server, url
}

func TestPostgreSQLRestartedInMidLoadLosesNothing(t *testing.T) {
	server, url := database(t)
	p := serve(t, "--store", url)
	l := p.startLoad(300)
	for _, stop := range []func() error{func() error { return nil }, server.Kill} {
		before := p.count("written_total", "store")
		p.eventually("more records in the store", func() bool { return p.count("written_total", "store") > before+200 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n := l.count()
	p.eventually("300 more answers", func() bool { return l.count() > n+300 })
	answered := l.end()
	p.settled("store") // on a slow machine what waits may take longer than the program's end has time for
	p.end()
	holds(t, "stdout", p.lines(), answered)
	holds(t, "the store", stored(t, url), answered)
	log := p.logged()
	if strings.Contains(log, "lost") || !strings.Contains(log, `msg="decision records are taken again" output=store`) {
		t.Errorf("the log:\n%s", log)
	}
}

func TestPostgreSQLStoppedForLongLosesWhatIsCounted(t *testing.T) {
	const bound = 150
	server, url := database(t)
	p := serve(t, "--store", url, "--record-queue", strconv.Itoa(bound))
	l := p.startLoad(300)
	p.eventually("records in the store", func() bool { return p.count("written_total", "store") >= 200 })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	n := l.count()
	p.eventually("more answers than may wait", func() bool { return l.count() >= n+4*bound })
	if waiting, lost := p.count("waiting", "store"), p.count("lost_total", "store"); waiting != bound || lost < 2*bound {
		t.Errorf("%d wait and %d are lost while the store is away", waiting, lost)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = l.count()
	p.eventually("answers after that", func() bool { return l.count() >= n+200 })
	answered := l.end()
	written, lost := p.settled("store")
	p.end()
	have := stored(t, url)
	holds(t, "stdout", p.lines(), answered)
	if written != len(have) || written+lost != len(answered) || lost == 0 || len(missing(have, answered)) != lost {
		t.Errorf("%d answered, %d written, %d lost; the store has %d and lacks %d", len(answered), written, lost, len(have), len(missing(have, answered)))
	}
	// What waits goes on where the store stopped: the gap is one, at the end of the absence.
	if gaps := gaps(p, have); gaps > 1+lost/20 { // an answer frees a place now and then while the store comes back
		t.Errorf("%d gaps", gaps)
	}
}

// gaps counts the runs of records that the store lacks, in the order of the lines.
func gaps(p *program, have []string) (n int) {
	lacking := false
	for _, id := range p.written() {
		_, ok := slices.BinarySearch(have, id)
		if !ok && !lacking {
			n++
		}
		lacking = !ok
	}
	return n
}

func TestPostgreSQLAwayAtTheStart(t *testing.T) {
	server, url := database(t)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	p := serve(t, "--store", url)
	l := p.startLoad(200)
	p.eventually("200 answers", func() bool { return l.count() >= 200 })
	if n := p.count("written_total", "store"); n != 0 {
		t.Errorf("%d written", n)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	answered := l.end()
	if written, lost := p.settled("store"); written != len(answered) || lost != 0 {
		t.Errorf("%d written and %d lost of %d", written, lost, len(answered))
	}
	p.end()
	holds(t, "the store", stored(t, url), answered)
	if log := p.logged(); !strings.Contains(log, `msg="the store is open"`) {
		t.Errorf("the log:\n%s", log)
	}
}

// Two replicas write into one store.
func TestReplicasShareAStore(t *testing.T) {
	_, url := database(t)
	a, b := serve(t, "--store", url), serve(t, "--store", url)
	la, lb := a.startLoad(150), b.startLoad(150)
	a.eventually("answers", func() bool { return la.count() >= 300 && lb.count() >= 300 })
	a.end()
	b.end()
	answered := slices.Concat(la.end(), lb.end())
	slices.Sort(answered)
	holds(t, "the store", stored(t, url), answered)
	for _, p := range []*program{a, b} {
		if log := p.logged(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
			t.Errorf("the log:\n%s", log)
		}
	}
}

// The figures are told with -v: what a decision's client waits while the store is alive, and dead.
func TestAnswersWhileTheDatabaseIsDead(t *testing.T) {
	server, url := database(t)
	p := serve(t, "--store", url)
	var p99 [2]time.Duration
	for i, state := range []string{"alive", "dead"} {
		l := p.startLoad(400)
		p.eventually("1,500 answers", func() bool { return l.count() >= 1500 })
		l.end()
		p99[i] = l.quantile(.99)
		t.Logf("the database is %s: p50 %s, p99 %s", state, l.quantile(.5), p99[i])
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if p99[1] > 2*p99[0]+100*time.Millisecond {
		t.Errorf("p99 is %s with a dead store, %s before", p99[1], p99[0])
	}
	p.kill()
}

// One record that the database cannot hold must not keep all others waiting.
func TestAPoisonousRecordIsAlone(t *testing.T) {
	_, url := database(t)
	p := serve(t, "--store", url)
	l := p.startLoad(200)
	p.eventually("answers", func() bool { return l.count() >= 50 })
	l.one("poison", "web-7d4b9c6f5-2xkqv", "poison-\x00-\u202e-\x1b")
	p.eventually("more answers", func() bool { return l.count() >= 200 })
	answered := l.end()
	written, lost := p.settled("store")
	if written+lost != len(answered) || lost > 1 {
		t.Errorf("%d written and %d lost of %d", written, lost, len(answered))
	}
	p.end()
	if have := stored(t, url); len(have) != written {
		t.Errorf("%d in the store, %d written", len(have), written)
	}
}
