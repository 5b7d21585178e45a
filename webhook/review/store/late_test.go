package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/evictgate/evictgate/webhook/record"
)

func TestAStoreThatIsAwayIsToldOnce(t *testing.T) {
	var logged bytes.Buffer
	l := NewLate("postgres://u:s3cret@127.0.0.1:1/db?sslmode=disable", Options{Retention: Retention{Age: time.Hour}, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if pause := l.retain(t.Context()); pause != reopenEvery {
			t.Errorf("the next try is in %s", pause)
		}
	}
	if _, err := l.Now(); err == nil {
		t.Error("there is a store")
	}
	if n, err := l.Send(t.Context(), records(made{})); n != 0 || err == nil || errors.Is(err, record.ErrRefused) {
		t.Errorf("sent %d records to a store that is away: %v", n, err)
	}
	if text := logged.String(); strings.Count(text, "the store is away; records wait for it") != 1 || strings.Contains(text, "s3cret") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestALateStoreIsOpenedWhenItIsWanted(t *testing.T) {
	l := NewLate("sqlite:"+t.TempDir()+"/store.db", Options{Retention: Retention{Age: time.Hour}})
	if n, err := l.Send(t.Context(), records(made{}, made{pod: "web-1", uid: "u1"})); n != 2 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	if err := l.AddSightings(t.Context(), []record.Sighting{{Namespace: "shop", Pod: "web-1", PodUID: "u1", Gone: after(time.Second)}}); err != nil {
		t.Fatal(err)
	}
	var unsettled []string
	for e, err := range l.Unsettled(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		unsettled = append(unsettled, e.ID)
	}
	equal(t, "unsettled", []string{"shop/web-0"}, unsettled)
	if pause := l.retain(t.Context()); pause != retentionEvery {
		t.Errorf("the next time is in %s", pause)
	}
	l.Close()
}

func TestWhatCannotBeAStoreIsToldAtTheBeginning(t *testing.T) {
	for _, url := range []string{"postgres://u:s3cret@host:port/db", "mysql://host/db", "sqlite:" + t.TempDir() + "/none/x.db"} {
		if err := NewLate(url, Options{}).Begin(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDefaultSizes(t *testing.T) {
	for url, want := range map[string]int64{"sqlite:x.db": 2 << 30, "sqlite::memory:": 128 << 20, "postgres://h/d": 0, "postgresql://h/d": 0} {
		if got := DefaultSize(url); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
}

func TestDataThatADatabaseRefusesIsNotSentAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		err     error
		refused bool
	}{
		"a text that is none":    {fmt.Errorf("add: %w", &pgconn.PgError{Code: "22021"}), true},
		"JSON that is too deep":  {&pgconn.PgError{Code: "54001"}, true},
		"the server shuts down":  {&pgconn.PgError{Code: "57P01"}, false},
		"the disk is full":       {&pgconn.PgError{Code: "53100"}, false},
		"the connection is gone": {errors.New("unexpected EOF"), false},
	} {
		if err := orRefused(tt.err); errors.Is(err, record.ErrRefused) != tt.refused || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
