package gate

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build builds the program into a directory, and returns its path.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "evictgate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/evictgate/evictgate/cmd/evictgate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build evictgate: %w\n%s", err, out)
	}
	return binary, nil
}
