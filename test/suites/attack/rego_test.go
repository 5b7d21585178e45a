//go:build linux

package attack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// regoBombs is how many are generated. Each is given to the program alone.
	regoBombs = 500
	// regoCPU and regoMemory are what a check may take of CPU time and memory, children included.
	regoCPU    = 5 * time.Second
	regoMemory = 512 << 20
	// regoSeed makes every run the same.
	regoSeed = 14
)

// regoCost is what one run of the program took.
type regoCost struct {
	cpu    time.Duration
	memory int64 // the larger of parent and child, in bytes
	code   int
	said   string
}

// check runs policy check over paths and measures it with all its children.
func regoCheck(program string, paths ...string) regoCost {
	cmd := exec.Command(program, append([]string{"policy", "check"}, paths...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	_ = cmd.Run() // the state says more
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return regoCost{
		cpu:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		memory: usage.Maxrss << 10, code: cmd.ProcessState.ExitCode(), said: said.String(),
	}
}

// within says what is wrong with the end of a check.
func (c regoCost) within() error {
	switch {
	case c.code < 0 || c.code > 2:
		return fmt.Errorf("exit %d", c.code)
	case c.cpu > regoCPU:
		return fmt.Errorf("%s of CPU time", c.cpu)
	case c.memory > regoMemory:
		return fmt.Errorf("%d MiB", c.memory>>20)
	case strings.Contains(c.said, "goroutine "):
		return fmt.Errorf("it says %.200q", c.said)
	case c.code == 2 && !strings.Contains(c.said, "evictgate: "):
		return fmt.Errorf("it does not say why: %.200q", c.said)
	}
	return nil
}

// regoWorst keeps the dearest.
type regoWorst struct {
	cpu, memory         regoCost
	cpuKind, memoryKind string
	codes               [3]int
}

func (w *regoWorst) add(kind string, c regoCost) {
	if c.cpu > w.cpu.cpu {
		w.cpu, w.cpuKind = c, kind
	}
	if c.memory > w.memory.memory {
		w.memory, w.memoryKind = c, kind
	}
	if c.code >= 0 && c.code < len(w.codes) {
		w.codes[c.code]++
	}
}

// Whatever the Rego, a check ends within its CPU time and memory: with an answer or with a refusal.
func TestRegoBombs(t *testing.T) {
	n := regoBombs
	if testing.Short() {
		n = len(regoKinds)
	}
	evictgate, dir := binary(t), t.TempDir()
	random := rand.New(rand.NewPCG(regoSeed, regoSeed))
	var w regoWorst
	texts := make([]string, n)
	for i := range n {
		texts[i] = regoHead(fmt.Sprintf("bomb%d", i)) + regoKinds[i%len(regoKinds)].rego(random) + "\n"
	}
	began := time.Now()
	var at atomic.Int64
	var sum sync.Mutex
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for i := int(at.Add(1)) - 1; i < n; i = int(at.Add(1)) - 1 {
				kind := regoKinds[i%len(regoKinds)]
				file := filepath.Join(dir, fmt.Sprintf("bomb%d.rego", i))
				if err := os.WriteFile(file, []byte(texts[i]), 0o600); err != nil {
					t.Error(err)
				}
				c := regoCheck(evictgate, file)
				if err := c.within(); err != nil {
					t.Errorf("%d, %s: %v\n%.600s", i, kind.name, err, texts[i])
				}
				sum.Lock()
				w.add(kind.name, c)
				sum.Unlock()
			}
		})
	}
	running.Wait()
	t.Logf("%d bombs in %s: %d without problems, %d with, %d refused; most CPU time %s (%s), most memory %d MiB (%s)",
		n, time.Since(began).Round(time.Second), w.codes[0], w.codes[1], w.codes[2], w.cpu.cpu, w.cpuKind, w.memory.memory>>20, w.memoryKind)
}

// Honest policies are loaded, however many there are.
func TestLargeHonestPolicies(t *testing.T) {
	evictgate := binary(t)
	for name, write := range map[string]func(t *testing.T, dir string){
		"20,000 names":         manyNames,
		"5,000 rules":          manyRules,
		"the library 20 times": manyLibraries,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir)
			c := regoCheck(evictgate, dir)
			if c.code != 0 {
				t.Errorf("exit %d: %.600s", c.code, c.said)
			}
			t.Logf("%s of CPU time, %d MiB", c.cpu, c.memory>>20)
		})
	}
}

// A check that is at work ends at once by a signal, and its child with it.
func TestRegoCheckHeedsSignals(t *testing.T) {
	evictgate, dir := binary(t), t.TempDir()
	regoWrite(t, dir, "bomb.rego", regoHead("bomb")+"x := "+strings.Repeat("[1|", 48)+"true"+strings.Repeat("]", 48)+regoViolation+"\n")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command(evictgate, "policy", "check", "--max-cpu", "1h", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children := fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid)
		child := ""
		for began := time.Now(); child == "" && time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
			files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
			for _, file := range files {
				if raw, err := os.ReadFile(file); err == nil && len(bytes.Fields(raw)) > 0 {
					child = string(bytes.Fields(raw)[0])
				}
			}
		}
		if child == "" {
			_ = cmd.Process.Kill()
			t.Skipf("no child is told in %s", children)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != signal {
			t.Errorf("%s: %s", signal, cmd.ProcessState)
		}
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			state, err := os.ReadFile("/proc/" + child + "/stat")
			if err != nil || bytes.Contains(state, []byte(") Z ")) {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%s: the child %s goes on", signal, child)
			}
		}
	}
}

func regoHead(id string) string {
	return fmt.Sprintf("# METADATA\n# title: t\n# description: d\n# custom:\n#   id: %s\npackage eviction.%s\n\n", id, id)
}

func regoWrite(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func manyNames(t *testing.T, dir string) {
	var b strings.Builder
	b.WriteString(regoHead("names") + "names := {\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "\t\"team-%d-application\",\n", i)
	}
	b.WriteString("}\n\ndeny contains {\"reason\": \"x\", \"detail\": {}} if input.pod.metadata.name in names\n")
	regoWrite(t, dir, "names.rego", b.String())
}

func manyRules(t *testing.T, dir string) {
	var b strings.Builder
	b.WriteString(regoHead("rules"))
	for i := range 5_000 {
		fmt.Fprintf(&b, "rule_%d if input.pod.metadata.labels.app == \"app-%d\"\n\n", i, i)
	}
	b.WriteString("deny contains {\"reason\": \"x\", \"detail\": {}} if rule_1\n")
	regoWrite(t, dir, "rules.rego", b.String())
}

// TestALargeSetIsServed loads the library 20 times in the memory that config/ gives a replica, of which the child that
// compiles it has a share.
func TestALargeSetIsServed(t *testing.T) {
	dir := t.TempDir()
	manyLibraries(t, dir)
	st := &stage{T: t, row: &row{}}
	s := serve(t, "--policies", dir)
	st.lives(s)
	t.Logf("%d MiB of resident memory", st.row.memory>>20)
}

// manyLibraries writes the policies of the library 20 times under other ids, each as an EvictionPolicy with
// its Rego in it. One that must be given parameters is given them by a default.
func manyLibraries(t *testing.T, dir string) {
	const library = "../../../policies/eviction"
	entries, err := os.ReadDir(library)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{
		"incident_freeze": "  parameters: {reason: INC-4711}\n",
		"rate_limit":      "  parameters: {limits: [{per: node, max: 2, period: 10m}]}\n",
	}
	for _, e := range entries {
		id := e.Name()
		source, err := os.ReadFile(filepath.Join(library, id, id+".rego"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			own := fmt.Sprintf("%s_%d", id, i)
			text := strings.NewReplacer("package eviction."+id, "package eviction."+own, "id: "+id+"\n", "id: "+own+"\n").Replace(string(source))
			manifest := fmt.Sprintf("apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: %s}\nspec:\n%s  rego: |\n    %s\n",
				strings.ReplaceAll(own, "_", "-"), given[id], strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    "))
			regoWrite(t, dir, own+".yaml", manifest)
		}
	}
}
