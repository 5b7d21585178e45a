package confined

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// variable holds, in the environment of a program that runs itself again, the limits that it heeds then: CPU
// time in milliseconds and memory in bytes.
const variable = "EVICTGATE_CONFINED"

// Inside puts this process under the limits that Again has set, and reports whether there are any.
func Inside() bool {
	said, ok := os.LookupEnv(variable)
	if !ok {
		return false
	}
	_ = os.Unsetenv(variable)
	milliseconds, memory, _ := strings.Cut(said, " ")
	cpu, err1 := strconv.ParseInt(milliseconds, 10, 64)
	bytes, err2 := strconv.ParseInt(memory, 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	obey(time.Duration(cpu)*time.Millisecond, bytes)
	return true
}

// Files says, within Again, that so many files are compiled from now on: each but the first adds to the CPU
// time. Elsewhere it does nothing.
func Files(n int) {
	if n > 1 && allowed.Load() > 0 {
		allowed.Add(int64(n-1) * int64(DefaultCPUPerFile))
	}
}

// Again runs this program again with the same command line, input and output, but under limits, and returns
// its exit code. The error says which limit has ended it. A signal that ends this process ends it, too,
// where the kernel ties them together, and by Ctrl-C everywhere.
func Again(limits Limits, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	limits = limits.withDefaults()
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program, to run it under limits: %w", err)
	}
	said := &ended{stderr: bounded{left: maxError}}
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", variable, limits.CPU.Milliseconds(), limits.Memory))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, io.MultiWriter(&said.stderr, untilFatal(stderr))
	tie(cmd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start this program under limits: %w", err)
	}
	_ = cmd.Wait() // the state says more
	said.state = cmd.ProcessState
	if why := said.beyond(limits.CPU, limits.Memory); why != "" {
		if said.state.ExitCode() == exitCPU {
			why += fmt.Sprintf(", and %s more for each further file", DefaultCPUPerFile)
		}
		return 0, beyond(why)
	}
	if said.state.ExitCode() < 0 {
		return 0, errors.New("ended by a " + said.state.String())
	}
	return said.state.ExitCode(), nil
}

// untilFatal passes on what is written, until Go's runtime reports that it gives up: that is for the log of
// a server, and a user is told in a sentence.
func untilFatal(w io.Writer) io.Writer { return &filter{to: w} }

type filter struct {
	to    io.Writer
	fatal bool
}

func (f *filter) Write(p []byte) (int, error) {
	for _, mark := range [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("runtime: "), []byte("SIGXCPU: ")} {
		f.fatal = f.fatal || bytes.HasPrefix(bytes.TrimLeft(p, "\n"), mark)
	}
	if f.fatal {
		return len(p), nil
	}
	return f.to.Write(p)
}
