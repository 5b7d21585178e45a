package attack

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
)

var (
	update = flag.Bool("update", false, "write docs/security-figures.md")
	quick  = flag.Bool("quick", false, "attack for a moment each, and judge no latency: for those who change the attacks")
)

// role, when it is set, makes this program one of those that a test starts beside itself.
const role = "EVICTGATE_ATTACK_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "flood":
		playRole(runFlood)
	case "sink":
		playRole(runSink)
	case "spin":
		playRole(runSpin)
	case "hog":
		playRole(runHog)
	}
	code := m.Run()
	if dir := filepath.Dir(built.file); built.file != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// playRole reads what is to be done from standard input, does it, and ends the process.
func playRole[T any](play func(T) error) {
	var todo T
	err := json.NewDecoder(os.Stdin).Decode(&todo)
	if err == nil {
		err = play(todo)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// built is the program, built as it is now when it is first asked for.
var built struct {
	sync.Once
	file string
	err  error
}

func binary(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		var dir string
		if dir, built.err = os.MkdirTemp("", "evictgate-attack-"); built.err == nil {
			built.file, built.err = gate.Build(dir)
		}
	})
	must(t, built.err)
	return built.file
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is must for a value.
func got[V any](v V, err error) func(*testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		must(t, err)
		return v
	}
}

// rounds and window are how often, and for how long, reviews are measured.
func rounds() (n int, window time.Duration) {
	if *quick {
		return 1, 500 * time.Millisecond
	}
	return 3, 1500 * time.Millisecond
}
