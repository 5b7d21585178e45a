package gate

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// Build builds the program into a directory with an absolute path, and returns its own. It is built by the
// product's go.mod, also for the tests of another module.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "evictgate")
	if out, err := exec.Command("go", "build", "-C", kube.Root(), "-o", binary, "./cmd/evictgate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build evictgate: %w\n%s", err, out)
	}
	return binary, nil
}
