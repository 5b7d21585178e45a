package confined

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
)

const (
	// waiting is how many callers may wait for a child at most, the one included that has it.
	waiting = 4
	// maxAnswer bounds what a child may say, in bytes, and maxError what it may complain.
	maxAnswer, maxError = 16 << 20, 64 << 10
)

// Compiler compiles in a child, one at a time. Make it with New.
type Compiler struct {
	limits Limits
	log    *slog.Logger
	// place is held while a child runs. Callers pass the door first, one at a time, so that a source's
	// policies wait for two children at most, however many callers there are.
	place, door, queue chan struct{}
}

// New makes a Compiler. The log is told of panics.
func New(limits Limits, log *slog.Logger) *Compiler {
	return &Compiler{
		limits: limits.withDefaults(), log: log,
		place: make(chan struct{}, 1), door: make(chan struct{}, 1), queue: make(chan struct{}, waiting),
	}
}

// Screen is nil when the units were compiled to an end, be it with problems: see policies.Sources. An error
// that is policies.ErrBeyondLimits is about the units, any other about the attempt.
func (c *Compiler) Screen(ctx context.Context, units []source.Unit) error {
	if err := take(ctx, c.place); err != nil {
		return err
	}
	defer leave(c.place)
	_, err := c.ask(ctx, request{Compile: units}, filesOf(units))
	return err
}

// Try runs a trial that a caller brings. The error is policies.ErrBusy when others are waiting already, and
// policies.ErrBeyondLimits when the policies could not be compiled within the limits.
func (c *Compiler) Try(ctx context.Context, t source.Trial) (check.Findings, error) {
	select {
	case c.queue <- struct{}{}:
		defer leave(c.queue)
	default:
		return check.Findings{}, source.ErrBusy
	}
	if err := take(ctx, c.door); err != nil {
		return check.Findings{}, err
	}
	defer leave(c.door)
	if err := take(ctx, c.place); err != nil {
		return check.Findings{}, err
	}
	defer leave(c.place)
	return c.ask(ctx, request{Trial: &t}, filesOf(t.Units()))
}

func take(ctx context.Context, place chan struct{}) error {
	select {
	case place <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func leave(place chan struct{}) { <-place }

func filesOf(units []source.Unit) int {
	n := 0
	for _, u := range units {
		n += len(u.Files)
	}
	return n
}

// ask starts a child and waits for its answer.
func (c *Compiler) ask(ctx context.Context, r request, files int) (check.Findings, error) {
	var none check.Findings
	in, err := json.Marshal(r)
	if err != nil {
		return none, err
	}
	cpu := c.limits.forFiles(files)
	e, err := start(ctx, c.limits.Wall, []string{argument, strconv.FormatInt(cpu.Milliseconds(), 10), strconv.FormatInt(c.limits.Memory, 10)}, bytes.NewReader(in))
	if err != nil {
		return none, err
	}
	if why := e.beyond(cpu, c.limits.Memory); why != "" {
		return none, beyond(why)
	}
	var a answer
	switch err := e.failed(); {
	case err != nil:
		c.log.Error("the child that compiles policies failed", "error", err, "stderr", cut(e.stderr.String(), maxStack))
		return none, err
	case json.Unmarshal(e.stdout.Bytes(), &a) != nil:
		return none, errors.New("the child that compiles policies gave no answer")
	case a.Panic != "":
		c.log.Error("panic while compiling policies", "panic", a.Panic, "stack", a.Stack)
		return none, beyond("made the compiler panic, which the log shows: " + firstLine(a.Panic))
	}
	return a.Findings, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return cut(line, 200)
}

// beyond is the error of policies that could not be compiled to an end.
func beyond(why string) error { return beyondError(why) }

type beyondError string

func (e beyondError) Error() string        { return string(e) }
func (e beyondError) Is(target error) bool { return target == source.ErrBeyondLimits }

// ended is a child that is no more.
type ended struct {
	stdout, stderr bounded
	state          *os.ProcessState
	err            error
}

// start runs this program as a child until it ends, or ctx is done, or the wall's time is over. The error is
// about the attempt.
func start(ctx context.Context, wall time.Duration, args []string, stdin io.Reader) (*ended, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to compile policies in a child: %w", err)
	}
	within, cancel := context.WithTimeoutCause(ctx, wall, fmt.Errorf("the child that compiles policies has not ended after %s", wall))
	defer cancel()
	e := &ended{stdout: bounded{left: maxAnswer}, stderr: bounded{left: maxError}}
	cmd := exec.CommandContext(within, program, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = []string{} // what a child needs, it is told
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &e.stdout, &e.stderr
	cmd.WaitDelay = time.Second
	tie(cmd)
	// The kernel ties the child to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a child to compile policies: %w", err)
	}
	e.err = cmd.Wait()
	e.state = cmd.ProcessState
	if within.Err() != nil {
		return nil, context.Cause(within)
	}
	return e, nil
}

// beyond says which limit ended the child; empty when none did.
func (e *ended) beyond(cpu time.Duration, memory int64) string {
	said := e.stderr.String()
	switch used := e.state.UserTime() + e.state.SystemTime(); {
	case e.state.ExitCode() == exitCPU, killed(e.state.Sys()) && used >= cpu, strings.Contains(said, "SIGXCPU"):
		return beyondCPU(cpu)
	case e.state.ExitCode() == exitMemory, strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"):
		return beyondMemory(memory)
	case strings.Contains(said, "stack exceeds"), strings.Contains(said, "stack overflow"):
		return beyondDepth
	case strings.HasPrefix(said, "panic: "):
		return "made the compiler panic: " + firstLine(strings.TrimPrefix(said, "panic: "))
	case killed(e.state.Sys()): // only the kernel does, for memory
		return beyondMemory(memory)
	}
	return ""
}

// failed is the error of a child that ended by none of its limits.
func (e *ended) failed() error {
	switch {
	case e.stdout.over:
		return fmt.Errorf("the child that compiles policies said more than %d MiB", maxAnswer>>20)
	case e.err != nil:
		return fmt.Errorf("the child that compiles policies: %w", e.err)
	}
	return nil
}

// bounded keeps the first bytes that are written.
type bounded struct {
	bytes.Buffer
	left int
	over bool
}

// Write takes everything, so that the writer comes to its end.
func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.over = b.over || keep < len(p)
	b.Buffer.Write(p[:keep])
	return len(p), nil
}
