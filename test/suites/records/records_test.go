package records

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// taker is an upload target that may be told to misbehave.
type taker struct {
	*httptest.Server
	mu  sync.Mutex
	ids []string
	// behave is asked first; when it answers, nothing is taken.
	behave func(http.ResponseWriter, *http.Request) (answered bool)
}

func newTaker(t *testing.T) *taker {
	k := &taker{}
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	behave := k.behave
	k.mu.Unlock()
	if behave != nil && behave(w, r) {
		return
	}
	unpacked, err := gzip.NewReader(r.Body)
	var records []record.Record
	if err == nil {
		err = json.NewDecoder(unpacked).Decode(&records)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range records {
		k.ids = append(k.ids, r.DecisionID)
	}
}

func (k *taker) become(behave func(http.ResponseWriter, *http.Request) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.behave = behave
}

func (k *taker) taken() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := slices.Clone(k.ids)
	slices.Sort(ids)
	return ids
}

func answering(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		return true
	}
}

func sqlite(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "records.db") }

func TestSIGTERMInMidLoadLosesNothing(t *testing.T) {
	url, target := sqlite(t), newTaker(t)
	p := serve(t, "--store", url, "--upload-url", target.URL+"/logs")
	l := p.startLoad(400)
	p.eventually("1,000 answers", func() bool { return l.count() >= 1000 })
	p.end()
	answered := l.end()
	holds(t, "stdout", p.lines(), answered)
	holds(t, "the store", stored(t, url), answered)
	holds(t, "the upload", target.taken(), answered)
	if log := p.logged(); strings.Contains(log, "lost") {
		t.Errorf("something is lost:\n%s", log)
	}
}

func TestKillInMidLoadLosesNothingThatTheStoreAcknowledged(t *testing.T) {
	url := sqlite(t)
	for round := range 3 {
		before := 0
		p := serve(t, "--store", url)
		if round > 0 {
			before = len(stored(t, url))
		}
		l := p.startLoad(400)
		p.eventually("records in the store", func() bool { return p.count("written_total", "store") >= 300*(round+1) })
		written := p.count("written_total", "store")
		p.kill()
		answered := l.end()
		have := stored(t, url)
		if n := len(have) - before; n < written {
			t.Errorf("round %d: %d records, but %d were acknowledged", round, n, written)
		}
		holds(t, "the store", have, nil)
		// Records are stored in order: what is lacking was answered in the last moments.
		if n := len(missing(have, answered)); n > 400 {
			t.Errorf("round %d: %d of %d records are not in the store after the kill", round, n, len(answered))
		}
	}
}

func TestAnUploadTargetThatFails(t *testing.T) {
	slow := make(chan struct{})
	for name, tt := range map[string]struct {
		behave func(http.ResponseWriter, *http.Request) bool
		// refuses says that the records are refused for good.
		refuses bool
	}{
		"answers 500":      {behave: answering(http.StatusInternalServerError)},
		"answers 401":      {behave: answering(http.StatusUnauthorized)},
		"cuts connections": {behave: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }},
		"does not answer": {behave: func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			<-slow
			return false
		}},
		"answers 400 to all": {behave: answering(http.StatusBadRequest), refuses: true},
	} {
		t.Run(name, func(t *testing.T) {
			target := newTaker(t)
			target.Config.ErrorLog = nil
			target.become(tt.behave)
			p := serve(t, "--store", "sqlite::memory:", "--upload-url", target.URL+"/logs")
			l := p.startLoad(300)
			p.eventually("300 answers", func() bool { return l.count() >= 300 })
			if tt.refuses {
				p.eventually("they are lost", func() bool { return p.count("lost_total", "upload") > 0 })
				target.become(nil)
				p.eventually("200 more answers", func() bool { return l.count() >= 500 })
			} else {
				if n := p.count("written_total", "upload"); n != 0 {
					t.Errorf("%d uploaded", n)
				}
				target.become(nil)
				if name == "does not answer" {
					close(slow)
				}
			}
			answered := l.end()
			written, lost := p.settled("upload")
			if n := len(target.taken()); n < written || written+lost != len(answered) || (lost > 0) != tt.refuses {
				t.Errorf("%d taken, %d written and %d lost of %d", n, written, lost, len(answered))
			}
			if written, lost := p.settled("store"); written != len(answered) || lost != 0 {
				t.Errorf("the store: %d written and %d lost of %d", written, lost, len(answered))
			}
			p.end()
			holds(t, "stdout", p.lines(), answered)
			if !tt.refuses && name != "does not answer" {
				holds(t, "the upload", target.taken(), answered)
			}
		})
	}
}

func TestATargetThatStaysAwayLosesWhatIsCounted(t *testing.T) {
	const bound = 100
	p := serve(t, "--upload-url", "http://"+freeAddress(t)+"/logs", "--record-queue", strconv.Itoa(bound))
	l := p.startLoad(400)
	p.eventually("500 answers", func() bool { return l.count() >= 500 })
	answered := l.end()
	p.eventually("all are counted", func() bool { return p.count("waiting", "stdout") == 0 })
	if lost, waiting := p.count("lost_total", "upload"), p.count("waiting", "upload"); waiting != bound || lost != len(answered)-bound {
		t.Errorf("%d lost and %d waiting of %d", lost, waiting, len(answered))
	}
	start := time.Now()
	p.end()
	if took := time.Since(start); took > 25*time.Second {
		t.Errorf("the end took %s", took)
	}
	holds(t, "stdout", p.lines(), answered)
	want := `msg="decision records were lost" output=upload lost=` + strconv.Itoa(len(answered))
	if log := p.logged(); !strings.Contains(log, want) || !strings.Contains(log, `msg="decision records lost" output=upload lost=1 `) {
		t.Errorf("not told: %s\n%s", want, log)
	}
}

// blackHole accepts connections and never says a word.
func blackHole(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			open = append(open, connection)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, c := range open {
			_ = c.Close()
		}
	})
	return listener.Addr().String()
}

// No answer waits for a store or an upload. The figures are told with -v; the bound leaves a busy machine
// room, and is far below what anything here waits for.
func TestAnswersWaitForNoOutput(t *testing.T) {
	hole := blackHole(t)
	for name, arguments := range map[string][]string{
		"stdout alone":                   nil,
		"a SQLite store":                 {"--store", sqlite(t)},
		"a PostgreSQL that is not there": {"--store", "postgres://evictgate@" + freeAddress(t) + "/evictgate?sslmode=disable"},
		"a PostgreSQL that says nothing": {"--store", "postgres://evictgate@" + hole + "/evictgate?sslmode=disable"},
		"an upload that is not there":    {"--upload-url", "http://" + freeAddress(t) + "/logs"},
		"an upload that says nothing":    {"--upload-url", "http://" + hole + "/logs", "--record-queue", "10"},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, arguments...)
			l := p.startLoad(400)
			p.eventually("1,500 answers", func() bool { return l.count() >= 1500 })
			answered := l.end()
			t.Logf("p50 %s, p99 %s of %d", l.quantile(.5), l.quantile(.99), len(answered))
			if p99 := l.quantile(.99); p99 > 500*time.Millisecond {
				t.Errorf("p99 is %s", p99)
			}
			if int64(len(answered)) != l.sent.Load() {
				t.Errorf("%d of %d answered", len(answered), l.sent.Load())
			}
			p.kill()
		})
	}
}
