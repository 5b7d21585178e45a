package gate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// Build puts the program into a directory with an absolute path, and returns its own. It is built by the product's go.mod,
// also for the tests of another module, and linked once for all who want it: the go command sees that it is up to date.
func Build(dir string) (string, error) {
	shared := filepath.Join(kube.Root(), "bin", "test", "evictgate")
	if err := os.MkdirAll(filepath.Dir(shared), 0o755); err != nil {
		return "", err
	}
	unlock, err := lockedfile.MutexAt(shared + ".lock").Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if out, err := exec.Command("go", "build", "-C", kube.Root(), "-ldflags", "-s -w", "-o", shared, "./cmd/evictgate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build evictgate: %w\n%s", err, out)
	}
	binary := filepath.Join(dir, "evictgate")
	if err := os.Link(shared, binary); err == nil {
		return binary, nil
	}
	return binary, copyProgram(shared, binary) // another file system
}

func copyProgram(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o755)
}
