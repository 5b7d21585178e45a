package memory

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Limits are what a process may use, in bytes; 0 means no limit.
type Limits struct {
	// Own is what this process may have of its control group's memory: beyond the whole, the kernel ends the group.
	Own int64
	// Go is the limit that the garbage collector heeds.
	Go int64
	// Child is what a child process may take beside this one.
	Child int64
}

// share keeps a quarter of the container's memory for a child, and at most most.
func share(container, most int64) Limits {
	if container == 0 {
		return Limits{Child: most}
	}
	child := min(most, container/4)
	return Limits{Own: container - child, Child: child}
}

// Use is what a process uses, in bytes.
type Use struct {
	// Live is what the last garbage collection left, and what Go has beside its heap. What is collected next
	// does not count: the collector comes in time by itself.
	Live int64
	// Resident is the memory that the kernel cannot take back, of libraries beside Go as well.
	Resident int64
}

// Level says how much memory is left.
type Level int32

const (
	Enough Level = iota
	// Tight is from nine tenths of a limit on: only what is small should be begun, and little of it at once.
	Tight
	// Short is from 97 hundredths on: nothing should be begun.
	Short
)

const (
	tightAt, shortAt = 0.90, 0.97
	// backAt is how far the use must fall below where a level began.
	backAt = 0.03
	// lookEvery is how often a Guard looks, freeEvery how often at most it frees what can be freed: that marks the
	// whole heap.
	lookEvery = 250 * time.Millisecond
	freeEvery = 10 * time.Second
)

// Guard watches the memory of this process.
type Guard struct {
	limits Limits
	use    func() Use
	free   func()
	log    *slog.Logger
	level  atomic.Int32
	freed  time.Time
}

// NewGuard is a Guard that looks when it is started; until then there is enough.
func NewGuard(l Limits, log *slog.Logger) *Guard {
	return &Guard{limits: l, use: taken, free: debug.FreeOSMemory, log: log}
}

// Level is what was seen last. A nil Guard always sees enough.
func (g *Guard) Level() Level {
	if g == nil {
		return Enough
	}
	return Level(g.level.Load())
}

// Start looks until ctx is done; it is a manager.Runnable.
func (g *Guard) Start(ctx context.Context) error {
	if g.limits.Own == 0 && g.limits.Go == 0 {
		g.log.Info("this process has no memory limit; work is not refused for want of memory")
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		g.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// NeedLeaderElection is false: every replica has memory of its own.
func (*Guard) NeedLeaderElection() bool { return false }

func (g *Guard) look() {
	use := g.use()
	before := g.Level()
	now := levelOf(used(use, g.limits), before)
	if now != Enough && time.Since(g.freed) >= freeEvery {
		g.freed = time.Now()
		g.free()
		use = g.use()
		now = levelOf(used(use, g.limits), before)
	}
	if now == before {
		return
	}
	g.level.Store(int32(now))
	said := []any{"live_bytes", use.Live, "resident_bytes", use.Resident, "limit_bytes", g.limits.Own, "go_limit_bytes", g.limits.Go}
	switch now {
	case Enough:
		g.log.Info("there is enough memory again", said...)
	case Tight:
		g.log.Warn("memory is tight: large reviews are refused, and small ones decided few at a time; raise the memory limit if this stays", said...)
	case Short:
		g.log.Error("memory is short: reviews are answered 429; raise the memory limit if this stays", said...)
	}
}

// used is the larger of what is used of either limit, 1 being all of it.
func used(u Use, l Limits) float64 {
	var most float64
	if l.Go > 0 {
		most = float64(u.Live) / float64(l.Go)
	}
	if l.Own > 0 {
		most = max(most, float64(u.Resident)/float64(l.Own))
	}
	return most
}

// levelOf keeps a level until the use has fallen some way below where it began.
func levelOf(share float64, before Level) Level {
	at := func(l Level, from float64) bool {
		return share >= from || (before >= l && share >= from-backAt)
	}
	switch {
	case at(Short, shortAt):
		return Short
	case at(Tight, tightAt):
		return Tight
	}
	return Enough
}

// taken asks the runtime and the kernel; it costs some 20 microseconds.
func taken() Use {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	n := make([]int64, len(samples))
	for i, s := range samples {
		n[i] = int64(s.Value.Uint64())
	}
	beside := n[0] - n[1] - n[2] - n[3] - n[4]
	return Use{Live: n[5] + max(beside, 0), Resident: resident()}
}

// resident is the process's anonymous memory; 0 where the kernel does not tell.
func resident() int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 3 {
		return 0
	}
	all, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	shared, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return 0
	}
	return (all - shared) * int64(os.Getpagesize())
}
