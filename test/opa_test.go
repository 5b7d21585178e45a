package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// opa runs the real opa program over the shipped schema and capabilities.
func opa(t *testing.T, command string, args ...string) (string, error) {
	t.Helper()
	kube.Need(t, "opa")
	program, _ := kube.Program("opa")
	track(t, "../policies/schema")
	shipped := []string{command, "--schema", "../policies/schema/input.json", "--capabilities", "../policies/schema/capabilities.json"}
	out, err := exec.Command(program, append(shipped, args...)...).CombinedOutput()
	return string(out), err
}

// track reads what a program started by the test reads, so that go test does not take an earlier result
// for the present files.
func track(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOPAAcceptsTheLibrary(t *testing.T) {
	track(t, "../policies/eviction")
	if out, err := opa(t, "check", "--strict", "../policies/eviction"); err != nil {
		t.Errorf("opa check: %v\n%s", err, out)
	}
	// Samples and suites are not data of the policies.
	out, err := opa(t, "test", "--ignore", "*.yaml", "../policies/eviction")
	if err != nil || !strings.Contains(out, "PASS: ") {
		t.Errorf("opa test: %v\n%s", err, out)
	}
}

func TestOPAFindsByTheShippedFiles(t *testing.T) {
	for name, tt := range map[string]struct{ rule, want string }{
		"a typo in the pod":             {`delay contains "x" if input.pod.metadata.lables.app`, "undefined ref: input.pod.metadata.lables.app"},
		"a typo in a list":              {`delay contains "x" if { some peer in input.peers; peer.redy }`, "undefined ref: peer.redy"},
		"a key that is not there":       {`delay contains "x" if input.objct`, "undefined ref: input.objct"},
		"a builtin that is left out":    {`delay contains "x" if http.send({"method": "get", "url": "http://localhost"}).body`, "undefined function http.send"},
		"chance":                        {`delay contains "x" if rand.intn("x", 2) == 1`, "undefined function rand.intn"},
		"a comparison of other types":   {`delay contains "x" if input.owner.name == 3`, "match error"},
		"nothing, since the time stays": {`delay contains "x" if time.now_ns() > 3`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "p.rego")
			if err := os.WriteFile(file, []byte("package eviction.p\n\n"+tt.rule+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := opa(t, "check", "--strict", file)
			if (err == nil) != (tt.want == "") || !strings.Contains(out, tt.want) {
				t.Errorf("got %v %q, want %q", err, out, tt.want)
			}
		})
	}
}
