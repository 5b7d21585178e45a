//go:build linux

// Package container is the last step before a container's own program: package node starts the command enter
// as process 1 of new pid, mount, uts and ipc namespaces, and Enter makes the file system, drops what the
// security context takes away, and becomes the program.
package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Spec says what to become. Package node writes it.
type Spec struct {
	// Hostname is the pod's name.
	Hostname string
	// Image is the directory of the image's files, Scratch an empty one that belongs to this container.
	Image, Scratch string
	ReadOnly       bool // of the root; volumes say it themselves
	Mounts         []Mount
	UID, GID       int
	Groups         []int
	DropAll        bool // all capabilities
	NoNewPrivs     bool
	WorkingDir     string
	Args, Env      []string
}

// Mount binds a file or directory of the host into the container.
type Mount struct {
	From, To string
	ReadOnly bool
}

// networkFD is the file descriptor of the pod's network namespace.
const networkFD = 3

// Enter becomes the program that a Spec in JSON describes; it returns only when it fails.
func Enter(spec string) error {
	runtime.LockOSThread() // namespaces and capabilities belong to the thread that becomes the program
	var c Spec
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	if err := unix.Setns(networkFD, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of the pod: %w", err)
	}
	unix.CloseOnExec(networkFD)
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := c.enterRoot(); err != nil {
		return err
	}
	if err := c.dropPrivileges(); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	path, err := lookUp(c.Args[0], c.Env)
	if err != nil {
		return err
	}
	if err := unix.Exec(path, c.Args, c.Env); err != nil {
		return fmt.Errorf("exec %s: %w", path, err)
	}
	return nil
}

// enterRoot makes the container's file system and makes it the root: the image's files below, what the
// container writes in a directory of its own, the volumes on top. The host's files are out of reach then.
func (c *Spec) enterRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	root, upper, work := filepath.Join(c.Scratch, "root"), filepath.Join(c.Scratch, "upper"), filepath.Join(c.Scratch, "work")
	for _, dir := range []string{root, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", c.Image, upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount the image: %w", err)
	}
	if err := c.mountAll(root); err != nil {
		return err
	}
	if c.ReadOnly {
		if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return pivot(root)
}

// mountAll adds what a container runtime adds: /proc, the harmless devices, and the volumes.
func (c *Spec) mountAll(root string) error {
	if err := MountProc(root); err != nil {
		return err
	}
	mounts := c.Mounts
	for _, device := range []string{"null", "zero", "full", "random", "urandom"} {
		mounts = append(mounts, Mount{From: "/dev/" + device, To: "/dev/" + device})
	}
	for _, m := range mounts {
		if err := m.bind(root); err != nil {
			return fmt.Errorf("mount %s: %w", m.To, err)
		}
	}
	return nil
}

// MountProc mounts the /proc of this process's namespace below a root, as every container runtime does.
func MountProc(root string) error {
	target := filepath.Join(root, "proc")
	if err := os.MkdirAll(target, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

func (m Mount) bind(root string) error {
	target := filepath.Join(root, m.To)
	if err := mountPoint(m.From, target); err != nil {
		return err
	}
	if err := unix.Mount(m.From, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// mountPoint makes an empty directory, or file, of the kind of what is mounted there.
func mountPoint(from, target string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// pivot makes dir the root and lets go of the old one.
func pivot(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	return os.Chdir("/")
}

// dropPrivileges ends as the user of the container. The signal of the parent's death is asked for last:
// a change of the user takes it back.
func (c *Spec) dropPrivileges() error {
	if c.DropAll {
		for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
	}
	if err := os.Chdir(c.WorkingDir); err != nil {
		return err
	}
	if err := unix.Setgroups(c.Groups); err != nil {
		return err
	}
	if err := unix.Setresgid(c.GID, c.GID, c.GID); err != nil {
		return err
	}
	if err := unix.Setresuid(c.UID, c.UID, c.UID); err != nil {
		return err
	}
	if c.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// lookUp finds a program as a container runtime does: by the PATH of the container.
func lookUp(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, variable := range env {
		list, ok := strings.CutPrefix(variable, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", errors.New("executable file " + strconv.Quote(name) + " not found in $PATH")
}
