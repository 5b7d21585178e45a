// Package kube runs a real Kubernetes control plane for tests, benchmarks and the demo: etcd,
// kube-apiserver and, as asked, kube-controller-manager, kube-scheduler and kwok, which plays
// the nodes. Nothing is mocked; only the kubelet and the containers are missing.
//
// The programs are built by `make controlplane` into bin/ at the module's root. Everything
// listens on 127.0.0.1 unless Options.Address says otherwise, and a control plane lives in one directory: certificates, kubeconfigs,
// data, the audit log and one log per program.
package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The programs of a control plane, as Restart, Kill, Pause and Resume name them.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

const (
	kubectl    = "kubectl"
	kwokStages = "kwok-stages"
	module     = "github.com/evictgate/evictgate"
)

// Options says what a control plane consists of. The zero value is etcd and kube-apiserver.
type Options struct {
	// Dir holds all files of the control plane. The default is a temporary directory, which
	// Stop removes unless Keep is set. A directory that is named is never removed.
	Dir  string
	Keep bool

	// Nodes is the number of nodes to create, named node-1 and up.
	Nodes int
	// Controllers starts kube-controller-manager. Without it there are no budget statuses, no
	// Deployments and no service accounts, and pods need none.
	Controllers bool
	// Scheduler starts kube-scheduler.
	Scheduler bool
	// Kwok starts kwok, which makes nodes and their pods Ready and lets deleted pods go.
	Kwok bool
	// OtherNodes leaves nodes that CreateNodes did not make, and their pods, to somebody else.
	OtherNodes bool

	// Address is where kube-apiserver listens: 127.0.0.1 by default, or another address of this machine,
	// which pods with a network of their own can reach. Then it also calls the endpoints of a Service
	// directly, since there is no kube-proxy that would know the Service's address.
	Address string

	// APIServerArgs follow the own arguments of kube-apiserver: a flag that takes one value
	// replaces the own one, a flag that takes a list adds to it.
	APIServerArgs []string
	// Log receives a line per step; nil discards them.
	Log io.Writer
}

// ControlPlane is a running control plane. Its methods are safe for concurrent use.
type ControlPlane struct {
	// Config is the administrator's, a member of system:masters, without a client-side limit. As with every
	// Config of this package, warnings are not printed: refusals carry them.
	Config *rest.Config
	// Client is made from Config.
	Client *kubernetes.Clientset
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// Dir holds the files of the control plane, among them <program>.log.
	Dir string

	options Options
	bin     string
	ca      *authority
	ports   ports
	spawner *spawner

	mu      sync.Mutex
	running []*process // in the order of their first start
	stopped bool
}

// Missing names those of the programs that are not built, in their order; without a name, those of a control
// plane. `make controlplane` builds these, `make NAME` another.
func Missing(programs ...string) []string {
	if len(programs) == 0 {
		programs = []string{Etcd, APIServer, ControllerManager, Scheduler, kubectl, Kwok, kwokStages}
	}
	var missing []string
	for _, name := range programs {
		if _, built := Program(name); !built {
			missing = append(missing, name)
		}
	}
	return missing
}

// Program is where a program of that name is built, beside the control plane's own, and whether it is
// there.
func Program(name string) (path string, built bool) {
	path = filepath.Join(binDir(), name)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode()&0o111 != 0
}

// binDir is $EVICTGATE_BIN or bin/ at the module's root.
func binDir() string {
	if dir := os.Getenv("EVICTGATE_BIN"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "bin")
}

// Root is the module's root, found from the working directory: paths that the compiler records are gone
// in a binary built with -trimpath. Outside the module it is the working directory.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; ; dir = filepath.Dir(dir) {
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(gomod), "module "+module+"\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// Start starts a control plane and returns when it is ready: /readyz answers, the controllers
// have made the default service account, and with kwok the nodes are Ready. The context bounds
// the start only. An error names the program that failed and ends with the last lines of its
// log; nothing is left running then.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if missing := Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("the control plane is not built (missing in %s: %s): run make controlplane",
			binDir(), strings.Join(missing, ", "))
	}
	c, err := prepare(o)
	if err != nil {
		return nil, fmt.Errorf("prepare the control plane: %w", err)
	}
	if err := c.startAll(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// startAll lets the clients of the API server start beside each other once it is ready.
func (c *ControlPlane) startAll(ctx context.Context) error {
	for _, program := range c.programs() {
		if err := c.launch(program); err != nil {
			return err
		}
		if program == Etcd || program == APIServer {
			if err := c.waitFor(ctx, program); err != nil {
				return err
			}
		}
	}
	if c.options.Controllers {
		if err := c.waitFor(ctx, ControllerManager); err != nil {
			return err
		}
	}
	return c.createFirstNodes(ctx)
}

// programs lists what the options ask for in the order of the start.
func (c *ControlPlane) programs() []string {
	programs := []string{Etcd, APIServer}
	if c.options.Controllers {
		programs = append(programs, ControllerManager)
	}
	if c.options.Scheduler {
		programs = append(programs, Scheduler)
	}
	if c.options.Kwok {
		programs = append(programs, Kwok)
	}
	return programs
}

func (c *ControlPlane) createFirstNodes(ctx context.Context) error {
	names := make([]string, c.options.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("node-%d", i+1)
	}
	if !c.options.Kwok {
		return c.CreateNodes(ctx, names...)
	}
	return c.whileRunning(ctx, Kwok, func(ctx context.Context) error { return c.CreateNodes(ctx, names...) })
}

// launch starts a program, or starts it again in its old place.
func (c *ControlPlane) launch(program string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("start %s: the control plane is stopped", program)
	}
	p, err := c.spawner.spawn(filepath.Join(c.bin, program), c.args(program), c.Dir)
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	for i, old := range c.running {
		if old.name == program {
			c.running[i] = p
			return nil
		}
	}
	c.running = append(c.running, p)
	return nil
}

// Restart stops a program if it runs, with SIGTERM, and starts it with the same arguments, on
// the same port and data. It returns when the program is ready, as far as that can be seen
// from outside: etcd and kube-apiserver by their health, the others at once. A new kwok takes
// the nodes over only when the leases of the old one end, 40 seconds after its last renewal.
func (c *ControlPlane) Restart(ctx context.Context, program string) error {
	p, err := c.process(program)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	if err := p.stop(); err != nil {
		return fmt.Errorf("restart %s: %w", program, err)
	}
	if err := c.launch(program); err != nil {
		return err
	}
	if program == Etcd || program == APIServer {
		return c.waitFor(ctx, program)
	}
	return nil
}

// Kill ends a program with SIGKILL and waits until it is gone. Restart brings it back.
func (c *ControlPlane) Kill(program string) error {
	p, err := c.process(program)
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return p.kill()
}

// Pause stops a program with SIGSTOP: it keeps its connections and answers nothing.
func (c *ControlPlane) Pause(program string) error {
	return c.signal(program, syscall.SIGSTOP)
}

// Resume lets a paused program go on.
func (c *ControlPlane) Resume(program string) error {
	return c.signal(program, syscall.SIGCONT)
}

func (c *ControlPlane) signal(program string, s syscall.Signal) error {
	p, err := c.process(program)
	if err != nil {
		return fmt.Errorf("send %s: %w", s, err)
	}
	return p.signal(s)
}

// PIDs are the process ids of the programs that run, by name.
func (c *ControlPlane) PIDs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	pids := make(map[string]int)
	for _, p := range c.running {
		if !p.exited() {
			pids[p.name] = p.cmd.Process.Pid
		}
	}
	return pids
}

// Stop ends every program, the last started first, by SIGTERM and after ten seconds by
// SIGKILL, and removes a temporary directory. It may be called more than once.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return nil
	}
	c.stopped = true
	running := c.running
	c.mu.Unlock()

	var errs []error
	for _, p := range running { // none can leave while another that it waits for is paused
		errs = append(errs, p.resume())
	}
	for i := len(running) - 1; i >= 0; i-- {
		started := time.Now()
		if err := running[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", running[i].name, err))
		}
		c.logf("%s stopped after %s", running[i].name, since(started))
	}
	c.spawner.close()
	if c.options.Dir == "" && !c.options.Keep {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) process(program string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.running {
		if p.name == program {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s was not started", program)
}

func (c *ControlPlane) logf(format string, args ...any) {
	if c.options.Log != nil {
		fmt.Fprintf(c.options.Log, format+"\n", args...)
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
