package confined

import (
	"cmp"
	"fmt"
	"time"
)

// Limits bound a child. The zero value of each field is its default.
type Limits struct {
	// CPU is the CPU time for one policy file; default DefaultCPU.
	CPU time.Duration
	// CPUPerFile is the CPU time that each further file adds; default DefaultCPUPerFile.
	CPUPerFile time.Duration
	// Memory is how many bytes the child may take beyond what it starts with; default DefaultMemory.
	Memory int64
	// Wall ends a child that neither works nor ends; default DefaultWall. It says nothing about the policies.
	Wall time.Duration
}

// The defaults of Limits. The whole library takes a third of a second and 90 MiB.
const (
	DefaultCPU        = 4 * time.Second
	DefaultCPUPerFile = 100 * time.Millisecond
	DefaultMemory     = 384 << 20
	DefaultWall       = 5 * time.Minute
)

func (l Limits) withDefaults() Limits {
	l.CPU = cmp.Or(l.CPU, DefaultCPU)
	l.CPUPerFile = cmp.Or(l.CPUPerFile, DefaultCPUPerFile)
	l.Memory = cmp.Or(l.Memory, DefaultMemory)
	l.Wall = cmp.Or(l.Wall, DefaultWall)
	return l
}

// forFiles is the CPU time for so many files.
func (l Limits) forFiles(n int) time.Duration {
	return l.CPU + time.Duration(max(0, n-1))*l.CPUPerFile
}

// beyondCPU, beyondMemory and beyondDepth say which limit was too small, for a sentence that begins with a
// name of what was compiled.
func beyondCPU(cpu time.Duration) string {
	return fmt.Sprintf("could not be compiled in %s of CPU time", cpu)
}

func beyondMemory(bytes int64) string {
	return fmt.Sprintf("needs more than %d MiB of memory to be compiled", bytes>>20)
}

const beyondDepth = "is nested too deeply to be compiled"
