//go:build linux

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
)

const (
	// longestBackOff is where the wait between restarts stops to double, and goodRun how long a container
	// runs until its failures are forgotten, as with a kubelet.
	longestBackOff = 5 * time.Minute
	goodRun        = 10 * time.Minute
	// leastGrace is what a container has after SIGTERM when its preStop took all the time.
	leastGrace = 2 * time.Second
)

// process is one run of a container.
type process struct {
	cmd     *exec.Cmd
	started metav1.Time
	id      string
	done    chan struct{}
}

// parent starts containers on one thread that lives as long as the agent: the kernel sends the signal of
// the parent's death when the thread that forked ends.
func (a *Agent) parent() {
	runtime.LockOSThread() // never unlocked
	for f := range a.work {
		f()
	}
}

// launch starts a container in namespaces of its own; what it writes goes to its log.
func (p *pod) launch(c *corev1.Container) (_ *process, img *image, err error) {
	if img, err = p.agent.images.find(c.Image); err != nil {
		return nil, nil, err
	}
	who, err := whom(p.pod(), c, img)
	if err != nil {
		return nil, img, err
	}
	env, err := environment(p.pod(), c, img, p.agent.api, p.agent)
	if err != nil {
		return nil, img, err
	}
	run := &process{id: string(uuid.NewUUID()), done: make(chan struct{})}
	dirs := map[string]string{}
	for name, v := range p.volumes {
		dirs[name] = v.dir
	}
	scratch := filepath.Join(p.dir, "containers", c.Name, run.id)
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, img, err
	}
	spec, err := json.Marshal(boxed(p.pod(), c, img, who, env, dirs, scratch))
	if err != nil {
		return nil, img, err
	}
	return run, img, p.spawn(run, string(spec), p.agent.logFile(p.namespace, p.name, c.Name))
}

func (p *pod) spawn(run *process, spec, log string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	run.cmd = exec.Command(p.agent.enter, spec)
	run.cmd.Env = []string{} // enter sets it
	run.cmd.Stdout, run.cmd.Stderr = out, out
	run.cmd.ExtraFiles = []*os.File{p.network.ns}
	run.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	failed := make(chan error)
	p.agent.work <- func() { failed <- run.cmd.Start() }
	if err := <-failed; err != nil {
		return err
	}
	run.started = metav1.Now()
	go func() {
		_ = run.cmd.Wait() // the state is in ProcessState
		close(run.done)
	}()
	return nil
}

func (r *process) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// terminated is how the run ended.
func (r *process) terminated() *corev1.ContainerStateTerminated {
	code, reason := r.cmd.ProcessState.ExitCode(), "Error"
	var signal int32
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		signal = int32(status.Signal())
		code = 128 + int(signal)
	}
	if code == 0 {
		reason = "Completed"
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Signal: signal, Reason: reason, StartedAt: r.started, FinishedAt: metav1.Now(), ContainerID: "test://" + r.id,
	}
}

// end stops a run as a kubelet does: the preStop sleep, SIGTERM, what is left of the grace period, SIGKILL.
func (p *pod) end(r *process, c *corev1.Container, grace time.Duration) {
	deadline := time.Now().Add(grace)
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
		p.until(r, min(grace, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second))
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM) // gone is as good
	p.until(r, max(leastGrace, time.Until(deadline)))
	_ = r.cmd.Process.Kill()
	<-r.done
}

// until waits for the end of the run, at most that long, and no longer than somebody wants the pod.
func (p *pod) until(r *process, d time.Duration) {
	select {
	case <-r.done:
	case <-p.ctx.Done():
	case <-time.After(d):
	}
}

// runContainer starts a container, again when it ends and the policy says so, until the pod is deleted.
func (p *pod) runContainer(i int) {
	c := &p.latest.Load().Spec.Containers[i]
	crashes := 0
	for restarts := int32(0); !p.dying(); restarts++ {
		run := p.begin(i, c)
		if run == nil {
			return
		}
		p.attend(i, c, run)
		end := run.terminated()
		p.update(i, func(s *corev1.ContainerStatus) {
			s.Ready, s.Started, s.State = false, new(bool), corev1.ContainerState{Terminated: end}
		})
		if p.dying() || !again(p.latest.Load().Spec.RestartPolicy, end.ExitCode) {
			return
		}
		if time.Since(run.started.Time) > goodRun {
			crashes = 0
		}
		wait := backOff(p.agent.options.BackOff, crashes)
		crashes++
		p.update(i, func(s *corev1.ContainerStatus) {
			s.RestartCount, s.LastTerminationState, s.State = restarts+1, s.State, crashed(c, wait)
		})
		p.rest(wait)
	}
}

// backOff is the wait before a restart: none at first, then one that doubles.
func backOff(first time.Duration, crashes int) time.Duration {
	if crashes == 0 {
		return 0
	}
	return min(longestBackOff, first<<min(crashes-1, 16))
}

func crashed(c *corev1.Container, wait time.Duration) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s restarting failed container=%s", wait, c.Name),
	}}
}

// begin starts the container, and tries again while it cannot. It returns nil when the pod is to go.
func (p *pod) begin(i int, c *corev1.Container) *process {
	for {
		run, img, err := p.launch(c)
		if err == nil {
			p.mu.Lock()
			p.containers[i] = run
			p.mu.Unlock()
			p.update(i, func(s *corev1.ContainerStatus) {
				s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: run.started}}
				s.ContainerID, s.ImageID = "test://"+run.id, img.digest
				s.Started = new(c.StartupProbe == nil)
				s.Ready = c.StartupProbe == nil && c.ReadinessProbe == nil
			})
			return run
		}
		p.update(i, func(s *corev1.ContainerStatus) { s.State = cannotStart(c, err) })
		p.tell("Failed", err.Error())
		if !p.rest(look) {
			return nil
		}
	}
}

// cannotStart says it with the reasons of a kubelet.
func cannotStart(c *corev1.Container, err error) corev1.ContainerState {
	waiting := &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: err.Error()}
	switch {
	case errors.Is(err, errNotThere) && c.ImagePullPolicy == corev1.PullNever:
		waiting.Reason = "ErrImageNeverPull"
		waiting.Message = fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
	case errors.Is(err, errNotThere):
		waiting.Reason = "ImagePullBackOff"
		waiting.Message = fmt.Sprintf("Back-off pulling image %q: there is no registry here", c.Image)
	}
	return corev1.ContainerState{Waiting: waiting}
}

// attend probes a run until it ends: by itself, since its liveness probe fails, or since the pod is deleted.
func (p *pod) attend(i int, c *corev1.Container, run *process) {
	probes := p.startProbes(i, c)
	defer probes.stop()
	grace := seconds(p.latest.Load().Spec.TerminationGracePeriodSeconds)
	select {
	case <-run.done:
	case probe := <-probes.failed:
		if probe.TerminationGracePeriodSeconds != nil {
			grace = seconds(probe.TerminationGracePeriodSeconds)
		}
		p.tell("Unhealthy", "container "+c.Name+" failed its probe and is restarted")
		p.end(run, c, grace)
	case <-p.deleting:
		probes.onlyReadiness()
		p.end(run, c, seconds(p.latest.Load().DeletionGracePeriodSeconds))
	case <-p.ctx.Done():
		_ = run.cmd.Process.Kill()
		<-run.done
	}
}

func seconds(n *int64) time.Duration {
	if n == nil {
		return 30 * time.Second
	}
	return time.Duration(*n) * time.Second
}
