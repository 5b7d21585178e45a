package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/evictgate/evictgate/test/harness/node/container"
	"github.com/evictgate/evictgate/test/harness/privilege"
	"github.com/evictgate/evictgate/test/harness/skip"
)

// inside is a process in the image's file system, as a container runtime starts it: mounts and process IDs of its
// own, the root read-only, the image's user, no capabilities. The network is the machine's.
type inside struct {
	// Root is the directory with the image's file system.
	Root string
	// ReadOnly and Writable are directories of the machine by where they are mounted.
	ReadOnly, Writable map[string]string
	Args, Env          []string
}

// variable hands an inside to the test program's second run, which becomes that process.
const variable = "EVICTGATE_INSIDE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(variable); spec != "" {
		fmt.Fprintln(os.Stderr, "inside:", enter(spec))
		os.Exit(125)
	}
	code := m.Run()
	if root, err := extracted(); err == nil {
		_ = os.RemoveAll(root)
	}
	os.Exit(code)
}

// extracted is the image's file system on disk, once for all tests.
var extracted = sync.OnceValues(func() (string, error) {
	img, err := read(layoutDir)
	if err != nil {
		return "", err
	}
	root, err := os.MkdirTemp("", "evictgate-image-")
	if err != nil {
		return "", err
	}
	return root, errors.Join(os.Chmod(root, 0o755), extract(img, root))
})

func extract(img v1.Image, root string) error {
	return walk(img, func(h *tar.Header, r io.Reader) error {
		name := filepath.Join(root, filepath.Clean("/"+h.Name))
		mode := h.FileInfo().Mode().Perm()
		if h.Typeflag == tar.TypeDir {
			return errors.Join(os.MkdirAll(name, mode), os.Chmod(name, mode))
		}
		out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close(), os.Chmod(name, mode))
	})
}

// command prepares a run of the image's program.
func (i inside) command(t *testing.T) *exec.Cmd {
	t.Helper()
	if lack := privilege.Missing(); lack != "" {
		skip.Without(t, lack)
	}
	built(t)
	root, err := extracted()
	must(t, err)
	i.Root = root
	spec, err := json.Marshal(i)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = []string{variable + "=" + string(spec)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	return cmd
}

// enter makes this process the one that spec describes; it returns only when that fails.
func enter(spec string) error {
	runtime.LockOSThread() // the signal below is asked for by the thread that becomes the program
	var i inside
	if err := json.Unmarshal([]byte(spec), &i); err != nil {
		return err
	}
	if err := syscall.Mount(i.Root, i.Root, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := errors.Join(container.MountProc(i.Root), bind(i.Root, i.ReadOnly, true), bind(i.Root, i.Writable, false), readOnly(i.Root)); err != nil {
		return err
	}
	if err := errors.Join(syscall.Chroot(i.Root), os.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := os.WriteFile("/written", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("the root can be written, even by root: %w", err)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65532), syscall.Setuid(65532)); err != nil {
		return fmt.Errorf("become the image's user: %w", err)
	}
	// A change of the user takes the signal of the parent's death back.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/evictgate", slices.Insert(i.Args, 0, "/evictgate"), i.Env)
}

// bind mounts directories of the machine below the root, whose mount points it makes, as a runtime does.
func bind(root string, mounts map[string]string, locked bool) error {
	for target, source := range mounts {
		target = filepath.Join(root, target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		if locked {
			if err := readOnly(target); err != nil {
				return err
			}
		}
	}
	return nil
}

func readOnly(target string) error {
	if err := syscall.Mount("", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}
