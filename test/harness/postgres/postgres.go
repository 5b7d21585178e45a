// Package postgres starts a real PostgreSQL server for tests: on 127.0.0.1, on a free port, in a directory
// that goes with it.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/skip"
)

// Server is a running server, with the superuser evictgate and no passwords.
type Server struct {
	programs, dir string
	port          int
	owner         *syscall.Credential

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	output  bytes.Buffer
}

// ErrMissing is the error of Start when there are no programs.
var ErrMissing = errors.New("there is no PostgreSQL: install the Debian package postgresql, or run test/tools/install.sh")

// ForTest starts a server, which ends with the test. Without the programs the test is skipped; with CI=true
// it fails.
func ForTest(t testing.TB) *Server {
	t.Helper()
	s, err := Start(context.Background())
	SkipWithout(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// SkipWithout ends a test that cannot have a server: skipped when only the programs are missing, and it is
// not CI.
func SkipWithout(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrMissing):
		skip.Without(t, "PostgreSQL: install postgresql")
	case err != nil:
		t.Fatal(err)
	}
}

// Find is the directory of initdb and postgres: on PATH, or else the newest of Debian's.
func Find() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, debian...) {
		_, initdb := os.Stat(filepath.Join(dir, "initdb"))
		_, server := os.Stat(filepath.Join(dir, "postgres"))
		if initdb == nil && server == nil {
			return dir, nil
		}
	}
	return "", ErrMissing
}

// version is that in /usr/lib/postgresql/VERSION/bin.
func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// Start makes a server and waits until it answers.
func Start(ctx context.Context) (*Server, error) {
	programs, err := Find()
	if err != nil {
		return nil, err
	}
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{programs: programs, dir: dir, owner: owner}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) begin(ctx context.Context) error {
	if s.owner != nil {
		if err := os.Chown(s.dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return err
		}
	}
	init := s.command("initdb", "-D", s.data(), "-U", "evictgate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	free, err := kube.FreePorts(1)
	if err != nil {
		return err
	}
	s.port = free[0]
	return s.run(ctx)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command runs a program as the owner, in a directory that the owner may enter.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.programs, program), args...) //nolint:gosec // a program that Find found
	c.Dir = s.dir
	c.Env = append(os.Environ(), "LC_ALL=C")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return c
}

// run starts the process. It does not wait for the disk: what must outlive it is the process's end.
func (s *Server) run(ctx context.Context) error {
	c := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories="+s.dir, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=100")
	s.output.Reset()
	c.Stdout, c.Stderr = &s.output, &s.output
	if err := kube.Spawn(c); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.mu.Lock()
	s.process, s.ended = c, ended
	s.mu.Unlock()
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	return s.answers(ctx, ended)
}

// answers waits until a client gets through.
func (s *Server) answers(ctx context.Context, ended chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if s.execute(ctx, "SELECT 1") == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("postgres ended:\n%s", s.output.String())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// URL names a database of the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://evictgate@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// execute runs a statement in the database postgres.
func (s *Server) execute(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// CreateDatabase makes a database, and gives back its URL.
func (s *Server) CreateDatabase(ctx context.Context, name string) (string, error) {
	return s.URL(url.PathEscape(name)), s.execute(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

// Restart ends the server as an administrator would, and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.end(syscall.SIGINT); err != nil {
		return err
	}
	return s.run(ctx)
}

// Kill ends the server's process at once, without a chance to tidy up. Start it again by Restart.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Stop ends the server and removes its directory.
func (s *Server) Stop() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.end(syscall.SIGINT), os.RemoveAll(s.dir))
}

// end signals the process that was started, if it runs still, and waits for its end; and, after SIGKILL,
// for that of its children, which see it and end by themselves.
func (s *Server) end(signal syscall.Signal) error {
	s.mu.Lock()
	process, ended := s.process, s.ended
	s.mu.Unlock()
	if process == nil {
		return nil
	}
	if err := process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended: // its output is closed when the last child has ended
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("process %d does not end", process.Process.Pid)
	}
}
