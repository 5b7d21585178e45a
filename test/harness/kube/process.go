package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a program has to leave after SIGTERM.
const stopGrace = 10 * time.Second

// spawner starts programs from one OS thread that lives until it is closed. The kernel sends the
// parent-death signal when the *thread* that forked ends, and Go ends threads as it likes: started
// from an ordinary goroutine, children would die at random.
type spawner struct {
	work chan func()
	quit chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func()), quit: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for {
			select {
			case f := <-s.work:
				f()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

// lasting is the spawner of Spawn; nobody closes it.
var lasting = sync.OnceValue(newSpawner)

// Spawn is cmd.Start for a program that ends with this process, however that ends: also one that
// SIGSTOP has stopped. Ctrl-C does not reach it.
func Spawn(cmd *exec.Cmd) error { return lasting().start(cmd) }

// start is cmd.Start on the spawner's thread.
func (s *spawner) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	endWithParent(cmd.SysProcAttr)
	result := make(chan error, 1)
	select {
	case s.work <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.quit:
		return errors.New("the control plane is stopped")
	}
}

// close ends the thread, and with it whatever was started from it and still runs.
func (s *spawner) close() { close(s.quit) }

// process is one program that was started.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program was waited for
}

// spawn starts a program in dir. What it writes is appended to <name>.log there.
func (s *spawner) spawn(program string, args []string, dir string) (*process, error) {
	name := filepath.Base(program)
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program holds its own descriptor
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Env = dir, environment(dir)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := s.start(p.cmd); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // the state is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// environment is all that a program inherits: no kubeconfig, proxy or setting of the user who
// runs the tests gets in, and nothing is written to the user's home.
func environment(dir string) []string {
	return []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to the program. One that is gone is an error.
func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %s to %s: %w", s, p.name, err)
	}
	return nil
}

// resume lets the program go on if it is paused and still there.
func (p *process) resume() error {
	if err := p.signal(syscall.SIGCONT); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// stop ends the program and returns when it is gone, also one that is paused.
func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := p.resume(); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
		return p.kill()
	}
}

// kill ends the program at once and returns when it is gone.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// tail is the end of the program's log.
func (p *process) tail() string {
	const lines = 15
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	all = all[max(0, len(all)-lines):]
	return strings.TrimSpace(string(bytes.Join(all, []byte("\n"))))
}
