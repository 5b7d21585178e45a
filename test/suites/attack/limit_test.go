package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// memoryLimit is what config/ gives a replica, in bytes.
const memoryLimit = 1 << 30

// box holds one run of the program, and what it starts, to memoryLimit: by a control group, as in a cluster, or,
// where this process may not make one, by the Go runtime's own limit and by ending it when it is above.
type box struct {
	// program is what to start: a script that enters the box and becomes the program.
	program string

	group   string // directory; empty without control groups
	pidFile string
	stop    chan struct{}
	done    sync.WaitGroup
	most    atomic.Int64 // bytes of resident memory, of the program itself
	ended   atomic.Bool  // by us, since it was above the limit
}

// newBox makes a box that is removed after the test.
func newBox(t *testing.T, program string) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{program: filepath.Join(dir, "evictgate"), pidFile: filepath.Join(dir, "pid"), stop: make(chan struct{})}
	b.group = newGroup(t)
	enter := "export GOMEMLIMIT=900MiB"
	if b.group != "" {
		enter = fmt.Sprintf("echo $$ >'%s'", filepath.Join(b.group, "cgroup.procs"))
	}
	script := fmt.Sprintf("#!/bin/sh\nset -e\n%s\necho $$ >'%s'\nexec '%s' \"$@\"\n", enter, b.pidFile, program)
	must(t, os.WriteFile(b.program, []byte(script), 0o700))
	b.done.Go(b.watch)
	t.Cleanup(func() {
		close(b.stop)
		b.done.Wait()
	})
	return b
}

// how says what holds the program.
func (b *box) how() string {
	if b.group == "" {
		return "GOMEMLIMIT and a watcher"
	}
	return "a control group"
}

// pid is the process id of the program; 0 before its start.
func (b *box) pid() int {
	text, _ := os.ReadFile(b.pidFile)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// watch remembers the most resident memory that the program had.
func (b *box) watch() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		pid := b.pid()
		bytes := peakResident(pid)
		b.most.Store(max(b.most.Load(), bytes))
		if b.group == "" && bytes > memoryLimit {
			b.ended.Store(true)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// peakResident is VmHWM of a process in bytes; 0 when it is gone.
func peakResident(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if pid == 0 || err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(rest)), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// kills is how many processes of the box were ended for memory. In a cluster one is the end of the whole pod.
func (b *box) kills() int {
	if b.ended.Load() {
		return 1
	}
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		text, _ := os.ReadFile(filepath.Join(b.group, name))
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "oom_kill "); ok && b.group != "" {
				n, _ := strconv.Atoi(strings.TrimSpace(rest))
				return n
			}
		}
	}
	return 0
}

// newGroup makes a control group with the limit, below the one that this process is in; empty when it may not.
func newGroup(t *testing.T) string {
	t.Helper()
	for _, c := range groupPlaces() {
		dir, err := os.MkdirTemp(c.parent, "evictgate-attack-")
		if err != nil {
			continue
		}
		if err := c.bound(dir); err != nil {
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() { removeGroup(t, dir) })
		return dir
	}
	return ""
}

// groupPlace is where a control group may be made, and the files that bound its memory: those that must be
// there, and those that bound swap where there is any.
type groupPlace struct {
	parent     string
	limit      string
	swap, most string
}

func groupPlaces() (list []groupPlace) {
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		switch {
		case strings.Contains(","+parts[1]+",", ",memory,"):
			v1 := groupPlace{limit: "memory.limit_in_bytes", swap: "memory.memsw.limit_in_bytes", most: fmt.Sprint(memoryLimit)}
			v1.parent = filepath.Join("/sys/fs/cgroup/memory", parts[2])
			list = append(list, v1)
		case parts[1] == "":
			// A group with processes of its own gives its controllers to none below it: a sibling, then.
			v2 := groupPlace{limit: "memory.max", swap: "memory.swap.max", most: "0"}
			for _, parent := range []string{parts[2], filepath.Dir(parts[2])} {
				v2.parent = filepath.Join("/sys/fs/cgroup", parent)
				list = append(list, v2)
			}
		}
	}
	return list
}

// bound sets the limit of a group that was just made.
func (c groupPlace) bound(dir string) error {
	if err := writeExisting(filepath.Join(dir, c.limit), fmt.Sprint(memoryLimit)); err != nil {
		return err
	}
	if err := writeExisting(filepath.Join(dir, c.swap), c.most); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeExisting writes a file that is there: elsewhere than in a control group it would be made.
func writeExisting(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// removeGroup waits until the processes of a group are gone.
func removeGroup(t *testing.T, dir string) {
	var err error
	for range 200 {
		if err = syscall.Rmdir(dir); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("remove the control group %s: %v", dir, err)
}

// runHog takes memory until it is ended.
func runHog(most int) error {
	var held [][]byte
	for len(held)<<20 < most {
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = byte(i)
		}
		held = append(held, chunk)
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(time.Second)
	return fmt.Errorf("%d MiB taken", len(held))
}

// TestTheLimitHolds: a limit that holds nobody would let every attack pass.
func TestTheLimitHolds(t *testing.T) {
	b := newBox(t, got(os.Executable())(t))
	cmd := exec.Command(b.program)
	cmd.Env = append(os.Environ(), role+"=hog")
	cmd.Stdin = strings.NewReader(fmt.Sprint(memoryLimit + memoryLimit/4))
	var said bytes.Buffer
	cmd.Stderr = &said
	must(t, kube.Spawn(cmd))
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("a program that takes 1.25 GiB in %s is not ended: %s %s", b.how(), cmd.ProcessState, said.String())
	}
	if b.kills() != 1 {
		t.Errorf("%d processes ended for memory, expected 1", b.kills())
	}
	t.Logf("memory is limited by %s; the program had %d MiB", b.how(), b.most.Load()>>20)
}
