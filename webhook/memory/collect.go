package memory

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// spacing is how many bytes are allocated between two garbage collections at least, as long as they
// are there. Go's default collects when the heap has doubled: with the cache of a small cluster that is
// every few hundred reviews, each time the whole cache is marked, and that was a sixth of the CPU.
const spacing = 128 << 20

// Configure sets the garbage collector for serve in a container with so much memory, 0 being no limit, of which a
// child process may take mostForChild at most, and returns the limits of this process. A user's GOMEMLIMIT and GOGC
// are left alone, each for itself.
func Configure(container, mostForChild int64) Limits {
	limits := share(container, mostForChild)
	if os.Getenv("GOMEMLIMIT") == "" && container > 0 {
		debug.SetMemoryLimit(limits.Own / 10 * 9) // the rest is for what is not Go's heap
	}
	if os.Getenv("GOGC") == "" {
		followHeap()
	}
	if soft := debug.SetMemoryLimit(-1); soft != math.MaxInt64 {
		limits.Go = soft
	}
	return limits
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
