package confined

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
)

// argument, as the first one of a command line, makes a process a child. The second is its CPU time in
// milliseconds, the third its memory in bytes.
const argument = "compile-confined"

// Exit codes with which a child says which limit it has reached.
const (
	exitCPU    = 91
	exitMemory = 92
)

const (
	// lookEvery is how often a child looks at what it has used.
	lookEvery = 4 * time.Millisecond
	// deepest bounds the stack of a child, so that a recursion ends in it and is told from other ends.
	deepest = 64 << 20
	// heedsAt is the share of the memory, in percent, from which on the garbage collector works against it.
	heedsAt = 70
)

// request is what a child is asked; one of the two.
type request struct {
	Compile []source.Unit `json:"compile,omitempty"`
	Trial   *source.Trial `json:"trial,omitempty"`
}

// answer is what it says.
type answer struct {
	Findings check.Findings `json:"findings"`
	// Panic and Stack tell of a panic; empty without one.
	Panic string `json:"panic,omitempty"`
	Stack string `json:"stack,omitempty"`
}

// Main makes the process a child when its command line says so, and does not return then.
func Main() {
	if len(os.Args) != 4 || os.Args[1] != argument {
		return
	}
	milliseconds, err1 := strconv.ParseInt(os.Args[2], 10, 64)
	memory, err2 := strconv.ParseInt(os.Args[3], 10, 64)
	if err1 != nil || err2 != nil {
		os.Exit(1)
	}
	runtime.GOMAXPROCS(1)
	cpu := time.Duration(milliseconds) * time.Millisecond
	limitCPU(cpu)
	obey(cpu, memory)
	if err := work(os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work answers one request.
func work(in io.Reader, out io.Writer) error {
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read what to compile: %w", err)
	}
	return json.NewEncoder(out).Encode(r.answer())
}

func (r request) answer() (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a.Panic, a.Stack = cut(fmt.Sprint(p), maxPanic), cut(string(debug.Stack()), maxStack)
		}
	}()
	if r.Trial != nil {
		a.Findings = check.Try(*r.Trial)
		return a
	}
	_, _ = source.CompileUnits(r.Compile) // it is enough that it ends
	return a
}

// maxPanic and maxStack bound what is told of a panic.
const maxPanic, maxStack = 1 << 10, 16 << 10

func cut(text string, n int) string {
	if len(text) > n {
		return text[:n] + "…"
	}
	return text
}

// allowed is the CPU time of this process in nanoseconds; 0 when it has no limit.
var allowed atomic.Int64

// obey puts the process under limits, for good.
func obey(cpu time.Duration, memory int64) {
	debug.SetMaxStack(deepest)
	debug.SetMemoryLimit(held() + memory/100*heedsAt)
	limitMemory(memory)
	allowed.Store(int64(cpu))
	end := held() + memory
	go func() {
		for range time.Tick(lookEvery) {
			switch {
			case cpuTime() >= time.Duration(allowed.Load()):
				os.Exit(exitCPU)
			case held() >= end:
				os.Exit(exitMemory)
			}
		}
	}()
}

// held is how much memory Go's runtime has taken from the system and not given back, in bytes.
func held() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
