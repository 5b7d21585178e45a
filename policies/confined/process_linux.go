package confined

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// rlimitData is RLIMIT_DATA, which package syscall has not for every architecture.
const rlimitData = 2

// limitMemory lets the kernel hold the limit of memory, too. A limit of address space would not do: Go reserves much
// more of it than it uses. The limit of data counts what is mapped to be written, in Go's steps of 64 MiB.
func limitMemory(memory int64) {
	// Where memory runs out after all, this process goes before the one that decides.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	if data, ok := dataPages(); ok {
		most := uint64(data)*uint64(os.Getpagesize()) + uint64(memory)
		_ = syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: most, Max: most})
	}
}

// dataPages is how many pages of data the process has: the sixth number of statm.
func dataPages() (int64, bool) {
	raw, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 6 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[5], 10, 64)
	return pages, err == nil
}

// tie ends the child with the thread that starts it.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
