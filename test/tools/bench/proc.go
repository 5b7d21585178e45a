package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime is what a process has used so far. The scheduler's own figures count nanoseconds a thread, and
// lag only while the thread runs; a kernel that was built without them gives clock ticks.
func cpuTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(threads) == 0 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("read the server's CPU time, which needs Linux: %w", err)
		}
		return parseStat(string(stat))
	}
	var sum time.Duration
	for _, file := range threads {
		line, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has just ended
		} else if err != nil {
			return 0, err
		}
		used, err := parseSchedstat(string(line))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += used
	}
	return sum, nil
}

// parseSchedstat reads the first of the three numbers of /proc/PID/task/TID/schedstat: nanoseconds spent
// on a CPU (https://docs.kernel.org/scheduler/sched-stats.html).
func parseSchedstat(line string) (time.Duration, error) {
	first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("schedstat %q: %w", line, err)
	}
	return time.Duration(ns), nil
}

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// parseStat adds utime and stime of /proc/PID/stat, the 14th and 15th field; see proc_pid_stat(5). The
// name of the program, the second, may hold spaces and parentheses.
func parseStat(line string) (time.Duration, error) {
	rest := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(rest) < 13 {
		return 0, fmt.Errorf("stat %q: too few fields", line)
	}
	var ticks int64
	for _, text := range rest[11:13] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat %q: %w", line, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// residentBytes is VmRSS of a process.
func residentBytes(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(status)
}

func parseResident(status []byte) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(rest, " kB")), 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("status has no VmRSS")
}

// metricValue finds a metric, named with its labels if it has any, in the Prometheus text format.
func metricValue(text io.Reader, name string) (float64, error) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// settled waits until a process rests, so that what it does after its answers (writing records, collecting
// garbage) is counted with the reviews that caused it. It returns the CPU time used by then.
func settled(ctx context.Context, pid int) (time.Duration, error) {
	const (
		pause = 20 * time.Millisecond
		rest  = 200 * time.Microsecond
		limit = 2 * time.Second
	)
	last, err := cpuTime(pid)
	for start := time.Now(); err == nil && time.Since(start) < limit; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
		var now time.Duration
		if now, err = cpuTime(pid); now-last < rest {
			return now, err
		}
		last = now
	}
	return last, err
}
