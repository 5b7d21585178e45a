package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// rows counts those of all tables but meta.
func rowsOf(t *testing.T, s *Store) map[string]int {
	t.Helper()
	counts := map[string]int{}
	err := s.db.read(t.Context(), func(q reader) error {
		for _, table := range []string{"decisions", "records", "record_names", "episodes", "episode_names", "answers", "decisions_by_day", "decisions_by_hour", "decisions_by_minute"} {
			n := 0
			if err := one(t.Context(), q, &n, "SELECT count(*) FROM "+table, nil); err != nil {
				return err
			}
			counts[table] = n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestRetentionByAge(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		const old = 100
		s := open(t, Options{Retention: Retention{Age: 48 * time.Hour}})
		var list []made
		for i := range old { // over four days, an hour apart; two pods each
			list = append(list, made{id: fmt.Sprintf("d%03d", i), uid: fmt.Sprint("u", i/2), at: -time.Duration(i) * time.Hour, budget: "web"})
		}
		add(t, s, records(list...)...)
		if _, err := s.AddAnswers(t.Context(), []record.Answer{
			{ID: "old", At: after(-90 * time.Hour), Verb: record.VerbEvict, Code: 201, Namespace: "shop", Pod: "x", Passage: record.Unseen},
			{ID: "new", At: after(-time.Hour), Verb: record.VerbEvict, Code: 201, Namespace: "shop", Pod: "y", Passage: record.Unseen},
		}); err != nil {
			t.Fatal(err)
		}
		now := after(90 * time.Second)
		removed, err := s.Retain(t.Context(), now)
		if err != nil || removed == 0 {
			t.Fatalf("removed %d, %v", removed, err)
		}
		kept := listed(t, s, Filter{})
		equal(t, "what is kept", 49-1, len(kept)) // 0 to 47 hours old; 48 hours and 90 s is too old
		equal(t, "rows", map[string]int{
			"decisions": 48, "records": 48, "record_names": 48, "episodes": 24 + 1, "episode_names": 24 * 4, "answers": 1,
			"decisions_by_day": 3, "decisions_by_hour": 48, "decisions_by_minute": 48,
		}, rowsOf(t, s))
		stats, err := s.Stats(t.Context(), Filter{})
		if err != nil || stats.Decisions["delayed"] != 48 {
			t.Errorf("stats %+v, %v", stats.Decisions, err)
		}
		if removed, err := s.Retain(t.Context(), now); err != nil || removed != 0 {
			t.Errorf("again: removed %d, %v", removed, err)
		}
		if got, err := s.Add(t.Context(), records(made{id: "d999", at: -90 * 24 * time.Hour})); err != nil || got.New != 1 {
			t.Errorf("an old record: %+v, %v", got, err)
		}
	})
}

func TestAnHourIsCutInTheMiddle(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{Retention: Retention{Age: time.Hour}})
		add(t, s, records(made{at: 0}, made{at: 29 * time.Minute}, made{at: 30 * time.Minute}, made{at: 31*time.Minute + time.Second})...)
		if n, err := s.Retain(t.Context(), after(90*time.Minute)); err != nil || n != 2 {
			t.Fatalf("removed %d, %v", n, err)
		}
		equal(t, "what is kept", []string{"d3", "d2"}, listed(t, s, Filter{}))
		agreesCounted(t, s, 2)
	})
}

func agreesCounted(t *testing.T, s *Store, n int) {
	t.Helper()
	if got, err := s.Count(t.Context(), Filter{Since: after(-time.Hour), Until: after(time.Hour)}); err != nil || got != n {
		t.Errorf("counted %d, %v; want %d", got, err, n)
	}
}

func TestRetentionBySizeGivesRoomBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	const size = 2 << 20
	s := opened(t, "sqlite:"+file, Options{Retention: Retention{Size: size}})
	for b := range 10 {
		var list []made
		for i := range 200 {
			list = append(list, made{id: fmt.Sprintf("d%d-%d", b, i), uid: fmt.Sprint("u", b, i), at: time.Duration(b*200+i) * time.Minute, message: strings.Repeat(fmt.Sprint(b*i, " "), 300)})
		}
		add(t, s, records(list...)...)
	}
	removed, err := s.Retain(t.Context(), noon)
	if err != nil || removed == 0 || removed > 1900 {
		t.Fatalf("removed %d of 2000, %v", removed, err)
	}
	kept := listed(t, s, Filter{})
	if len(kept) != 2000-removed || kept[0] != "d9-199" {
		t.Errorf("removed %d, %d are kept, the newest is %s", removed, len(kept), kept[0])
	}
	if err := s.db.write(t.Context(), func(writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.(*sqlite).writer.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Size() > size+64<<10 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
}

func TestRetentionBySizeOfAnswersAlone(t *testing.T) {
	const size = 2 << 20
	s := opened(t, "sqlite:"+filepath.Join(t.TempDir(), "store.db"), Options{Retention: Retention{Size: size}})
	for b := range 10 {
		var list []record.Answer
		for i := range 300 {
			list = append(list, record.Answer{
				ID: fmt.Sprintf("a%d-%d", b, i), At: after(time.Duration(b*300+i) * time.Minute), Verb: record.VerbEvict, Code: 201, Namespace: "shop",
				Pod: fmt.Sprint("web-", b, "-", i), Passage: record.Unseen,
			})
		}
		if _, err := s.AddAnswers(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Retain(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	if left, err := s.db.size(t.Context()); err != nil || left > size {
		t.Errorf("%d bytes, %v", left, err)
	}
	if n := rowsOf(t, s)["answers"]; n == 0 || n == 3000 {
		t.Errorf("%d answers are left", n)
	}
}

func TestGrowthIsTold(t *testing.T) {
	s := opened(t, "sqlite::memory:", Options{Retention: Retention{Size: 64 * rowsSize * grownPart}})
	told := func() bool {
		select {
		case <-s.Grown():
			return true
		default:
			return false
		}
	}
	for batch, want := range []bool{false, true, false, true} {
		var list []made
		for i := range 40 {
			list = append(list, made{id: fmt.Sprint(batch, "-", i)})
		}
		add(t, s, records(list...)...)
		if got := told(); got != want {
			t.Errorf("batch %d: %t", batch, got)
		}
		if want {
			if _, err := s.Retain(t.Context(), noon); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRetentionBySizeDropsWholeDays(t *testing.T) {
	s := opened(t, newDatabase(t), Options{Retention: Retention{Size: 1}})
	for d := range 3 {
		add(t, s, records(made{id: fmt.Sprint("d", d), at: time.Duration(d) * 24 * time.Hour})...)
	}
	if n, err := s.Retain(t.Context(), after(100*time.Hour)); err != nil || n != 2 {
		t.Errorf("removed %d, %v", n, err)
	}
	equal(t, "the last day stays", []string{"d2"}, listed(t, s, Filter{}))
}
