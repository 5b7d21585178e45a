// Package privilege says whether this process may do what tests need that run containers: make namespaces, mounts
// and network interfaces. Root in a container often may not.
package privilege

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Dir is where containers have their files: /tmp may itself be an overlay, which no other can be mounted on.
const Dir = "/run/evictgate-node"

// Missing says what this process lacks; empty when it may do all. It is asked once.
var Missing = sync.OnceValue(func() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	for _, program := range []string{"ip", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return "the program " + program
		}
	}
	dir, err := layers()
	if err != nil {
		return err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bridge := fmt.Sprintf("egp%d", os.Getpid())
	for _, try := range [][]string{
		{"mount", "-t", "tmpfs", "tmpfs", dir},
		{"mount", "-t", "overlay", "overlay", dir, "-o", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)},
		{"ip", "link", "add", "name", bridge, "type", "bridge"},
		{"ip", "link", "add", "name", "egpa", "type", "veth", "peer", "name", "egpb"},
	} {
		if err := apart(try...); err != nil {
			return fmt.Sprintf("the permission for %s in namespaces of its own (%v)", strings.Join(try[:3], " "), err)
		}
	}
	// The bridge that joins the pods is in this process's own network.
	if out, err := exec.Command("ip", "link", "add", bridge, "type", "bridge").CombinedOutput(); err != nil {
		return fmt.Sprintf("the permission to add a bridge (%s)", bytes.TrimSpace(out))
	}
	_ = exec.Command("ip", "link", "delete", bridge).Run()
	return ""
})

// layers makes a directory with the parts of an overlay.
func layers() (string, error) {
	if err := os.MkdirAll(Dir, 0o711); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(Dir, "privilege-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// apart runs a command in namespaces of its own, so that it leaves nothing behind.
func apart(command ...string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Unshareflags: syscall.CLONE_NEWNS,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w %s", err, bytes.TrimSpace(out))
	}
	return nil
}
