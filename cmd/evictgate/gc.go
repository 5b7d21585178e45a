package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// spacing is how many bytes are allocated between two garbage collections at least, as long as they
// are there. Go's default collects when the heap has doubled: with the cache of a small cluster that is
// every few hundred reviews, each time the whole cache is marked, and that was a sixth of the CPU.
const spacing = 128 << 20

// spaceGC sets the garbage collector for serve. It leaves a user's GOGC or GOMEMLIMIT alone, and heeds
// the memory limit of the container.
func spaceGC() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if raw, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			debug.SetMemoryLimit(limit / 10 * 9) // the rest is for what is not Go's heap
		}
	}
	followHeap()
}

// followHeap sets GOGC for the live heap, now and after every collection: the collection finds the
// marker unreachable. It must not be a tiny object, which shares its block with others.
func followHeap() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
	runtime.AddCleanup(new([64]byte), func(struct{}) { followHeap() }, struct{}{})
}

// gcPercent is the GOGC with which the next collection comes after spacing bytes, or after as many as
// are live when these are more.
func gcPercent(live uint64) int {
	const smallest = 4 << 20 // Go multiplies GOGC with this much at least
	return int(max(100, spacing*100/max(live, smallest)))
}
