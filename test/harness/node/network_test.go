//go:build linux

package node

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/node/container"
	"github.com/evictgate/evictgate/test/harness/skip"
)

// TestKilledRunLeavesNothing runs this test binary again, kills it while a container runs, and looks for what
// it had started.
func TestKilledRunLeavesNothing(t *testing.T) {
	const child = "EVICTGATE_NODE_TEST_CHILD"
	if os.Getenv(child) != "" {
		runOneContainer(t)
		return
	}
	skip.Without(t, Missing()...)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=yes")
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	var pid int
	var bridge, dir string
	if _, err := fmt.Fscanf(out, "pid %d bridge %s dir %s\n", &pid, &bridge, &dir); err != nil {
		t.Errorf("the child did not say what it started: %v", err)
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it says that it was killed
	for began := time.Now(); !gone(pid); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatalf("process %d outlives the run", pid)
		}
	}
	n, err := NewNetwork() // sweeps what is left of others
	check(t, err)
	defer func() { check(t, n.Close()) }()
	if _, err := os.Stat("/sys/class/net/" + bridge); err == nil && bridge != n.bridge() {
		t.Errorf("bridge %s is left", bridge)
	}
	if _, err := os.Stat(filepath.Join(dir, "enter")); err == nil {
		t.Errorf("%s is left", dir)
	}
}

// gone: an orphan that ended may stay as a zombie where nobody reaps it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// runOneContainer is what the child does until it is killed.
func runOneContainer(t *testing.T) {
	n, err := NewNetwork()
	check(t, err)
	a := &Agent{options: Options{Network: n}, work: make(chan func()), enter: filepath.Join(n.dir, "enter")}
	go a.parent()
	files := filepath.Join(n.dir, "image")
	check(t, os.Mkdir(files, 0o755))
	for name, pkg := range map[string]string{a.enter: "./enter", filepath.Join(files, "hello"): "./hello"} {
		build := exec.Command("go", "build", "-o", name, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	p := &pod{agent: a}
	p.network, err = n.newSandbox()
	check(t, err)
	spec, err := json.Marshal(container.Spec{
		Hostname: "killed", Image: files, Scratch: filepath.Join(n.dir, "scratch"), UID: 65532, GID: 65532, WorkingDir: "/", Args: []string{"/hello", "x"},
	})
	check(t, err)
	run := &process{done: make(chan struct{})}
	log := filepath.Join(n.dir, "log")
	check(t, p.spawn(run, string(spec), log))
	for !strings.Contains(read(log), "hello from x") {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("pid %d bridge %s dir %s\n", run.cmd.Process.Pid, n.bridge(), n.dir)
	time.Sleep(time.Minute) // until it is killed
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

func TestTwoNetworksSideBySide(t *testing.T) {
	skip.Without(t, Missing()...)
	first, err := NewNetwork()
	check(t, err)
	second, err := NewNetwork()
	check(t, err)
	if first.Gateway() == second.Gateway() {
		t.Errorf("both have %s", first.Gateway())
	}
	s, err := first.newSandbox()
	check(t, err)
	if _, err := os.Stat("/sys/class/net/" + s.cable()); err != nil {
		t.Error(err)
	}
	check(t, s.close())
	for _, n := range []*Network{first, second} {
		check(t, n.Close())
		for _, left := range []string{"/sys/class/net/" + n.bridge(), "/sys/class/net/" + s.cable(), n.dir} {
			if _, err := os.Stat(left); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", left, err)
			}
		}
	}
}

func TestANetworkLeavesTheRoutesOfTheMachineAlone(t *testing.T) {
	n := &Network{slot: 2} // 10.66.0.0/16
	for route, want := range map[string]bool{
		"10.66.0.0/16": true, "10.66.9.0/24": true, "10.66.255.255": true,
		"10.67.0.0/16": false, "10.0.0.0/8": false, "default": false, "192.168.1.0/24": false,
	} {
		if n.holds(route) != want {
			t.Errorf("%s: want %t", route, want)
		}
	}
}

func TestAContainerThatCannotStartSaysWhy(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Without(t, "root")
	}
	enter := filepath.Join(t.TempDir(), "enter")
	out, err := exec.Command("go", "build", "-o", enter, "./enter").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ns, err := os.Open("/proc/self/ns/net")
	check(t, err)
	defer func() { _ = ns.Close() }()
	spec, err := json.Marshal(container.Spec{Image: t.TempDir(), Scratch: t.TempDir(), WorkingDir: "/", Args: []string{"/nothing"}})
	check(t, err)
	cmd := exec.Command(enter, string(spec))
	cmd.ExtraFiles = []*os.File{ns}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS}
	out, err = cmd.CombinedOutput()
	if got := string(out); err == nil || got != "cannot start the container: exec /nothing: no such file or directory\n" {
		t.Errorf("%v: %s", err, got)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
