package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/postgres"
	"github.com/evictgate/evictgate/test/harness/skip"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// postgres starts the database that the replicas share, and returns its URL.
func (w *world) postgres(t *testing.T) string {
	t.Helper()
	var err error
	w.database, err = postgres.Start(t.Context())
	postgres.SkipWithout(t, err)
	url, err := w.database.CreateDatabase(t.Context(), "faults")
	must(t, err)
	return url
}

// mount makes a small file system that can be full. It takes root.
func (w *world) mount(t *testing.T) {
	t.Helper()
	dir := filepath.Join(w.dir, "disk")
	must(t, os.Mkdir(dir, 0o700))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m")
	if errors.Is(err, syscall.EPERM) {
		skip.Without(t, "the permission to mount a tmpfs")
	}
	must(t, err)
	w.disk = dir
}

// unmount may find that programs still have files open: then the name goes now, and the rest when they end.
func (w *world) unmount(t *testing.T) {
	t.Helper()
	if w.disk == "" {
		return
	}
	if err := syscall.Unmount(w.disk, syscall.MNT_DETACH); err != nil {
		t.Errorf("unmount: %v", err)
	}
	w.disk = ""
}

func (w *world) storeFile(n int) string {
	return filepath.Join(w.disk, fmt.Sprintf("store-%d.db", n))
}

// loseDatabase kills the server, and starts it again when records wait.
func loseDatabase(st *stage) {
	must(st.T, st.database.Kill())
	time.Sleep(8 * time.Second)
	if waiting := st.sum("waiting"); waiting == 0 {
		st.Error("no record waits for the store")
	}
	must(st.T, st.database.Restart(context.WithoutCancel(st.Context())))
	st.storedAgain()
}

// nothingLost wants every record of every replica in the one store.
func nothingLost(st *stage) {
	st.settled()
	if lost := st.sum("lost_total"); lost != 0 {
		st.Errorf("%d records lost", lost)
	}
	stored, want := ids(st.T, st.database.URL("faults")), []string{}
	for _, r := range st.group.All() {
		want = append(want, recorded(st.T, r)...)
	}
	slices.Sort(want)
	if !slices.Equal(stored, want) {
		st.Errorf("%d records stored, %d written to stdout", len(stored), len(want))
	}
	st.Logf("%d records stored", len(stored))
}

// fillDisk fills the store's disk until records are lost, and makes room again.
func fillDisk(st *stage) {
	ballast, until := filepath.Join(st.disk, "ballast"), time.Now().Add(5*time.Second)
	must(st.T, fill(ballast))
	err := kube.Wait(st.Context(), "records to be lost", func(context.Context) (bool, error) {
		must(st.T, fill(ballast)) // what was freed meanwhile
		return time.Now().After(until) && st.sum("lost_total") > 0, nil
	})
	must(st.T, err)
	for _, r := range st.group.Running() {
		must(st.T, r.WaitReady(st.Context()))
	}
	must(st.T, os.Remove(ballast))
	st.storedAgain()
}

// fill writes until there is no room.
func fill(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 20, 4096, 1} {
		for chunk := make([]byte, size); err == nil; {
			_, err = f.Write(chunk)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		err = nil
	}
	return nil
}

// lossesCounted wants in each replica's store what it wrote to stdout, but for as many as it counts, and
// wants the log to tell of it.
func lossesCounted(st *stage) {
	st.settled()
	told := ""
	for i, r := range st.group.All() {
		stored, written, lost := ids(st.T, "sqlite:"+st.storeFile(i)), recorded(st.T, r), metric(st.T, r, "lost_total")
		if len(stored)+lost != len(written) {
			st.Errorf("replica %d: %d records stored, %d lost, %d written to stdout", i, len(stored), lost, len(written))
		}
		st.Logf("replica %d: %d records stored, %d lost, %d written to stdout", i, len(stored), lost, len(written))
		told += r.Log()
	}
	for _, text := range []string{"decision records wait, their target does not take them", "decision records lost", "decision records are taken again"} {
		if !strings.Contains(told, text) {
			st.Errorf("the logs do not tell %q", text)
		}
	}
}

// storedAgain waits until the store takes records, without a restart of ours.
func (st *stage) storedAgain() {
	st.Helper()
	before := st.sum("written_total")
	err := kube.Wait(st.Context(), "records to be stored again", func(context.Context) (bool, error) {
		return st.sum("written_total") > before, nil
	})
	must(st.T, err)
}

// settled waits until nothing waits for the store.
func (st *stage) settled() {
	st.Helper()
	err := kube.Wait(st.Context(), "the waiting records to be stored", func(context.Context) (bool, error) {
		return st.sum("waiting") == 0, fmt.Errorf("%d wait", st.sum("waiting"))
	})
	must(st.T, err)
}

// sum adds up a metric of the store over the replicas.
func (st *stage) sum(name string) (n int) {
	for _, r := range st.group.Running() {
		n += metric(st.T, r, name)
	}
	return n
}

func metric(t *testing.T, r *gate.Replica, name string) int {
	t.Helper()
	return value(t, r, "evictgate_records_"+name+`{output="store"} `)
}

// value is that of a metric with its labels; 0 when nothing was counted yet.
func value(t *testing.T, r *gate.Replica, metric string) int {
	t.Helper()
	text, err := r.MetricsText(t.Context())
	must(t, err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, metric); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			must(t, err)
			return int(n)
		}
	}
	return 0
}

// ids are those in a store, sorted.
func ids(t *testing.T, url string) (list []string) {
	t.Helper()
	s, err := store.Open(t.Context(), url, store.Options{ReadOnly: true})
	must(t, err)
	defer func() { _ = s.Close() }()
	for r, err := range s.Records(t.Context(), store.Filter{DryRuns: true}) {
		must(t, err)
		list = append(list, r.DecisionID)
	}
	slices.Sort(list)
	return list
}

// recorded are the ids that a replica wrote to stdout.
func recorded(t *testing.T, r *gate.Replica) (list []string) {
	t.Helper()
	all, err := r.Records()
	must(t, err)
	for _, record := range all {
		list = append(list, record.DecisionID)
	}
	return list
}
