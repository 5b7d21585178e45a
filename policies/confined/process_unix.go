//go:build unix

package confined

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of all CPUs.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// limitCPU lets the kernel end the process when it did not end itself: a second later, since the kernel
// counts whole seconds.
func limitCPU(cpu time.Duration) {
	seconds := uint64((cpu+time.Second-1)/time.Second) + 1
	_ = syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: seconds, Max: seconds})
}

// killed reports whether a signal ended the process.
func killed(status any) bool {
	s, ok := status.(syscall.WaitStatus)
	return ok && s.Signaled()
}
