package gate

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// Setup is what the tests of a package share.
type Setup struct {
	// Binary is the program, just built, and Dir a directory that lasts as long as the tests.
	Binary, Dir string

	cleanups []func()
}

// Cleanup adds what is called after the tests, the last one first, also when setting up failed halfway.
func (s *Setup) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *Setup) clean() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

// ControlPlane starts a control plane that is stopped after the tests.
func (s *Setup) ControlPlane(ctx context.Context, o kube.Options) (*kube.ControlPlane, error) {
	plane, err := kube.Start(ctx, o)
	if err == nil {
		s.Cleanup(func() { _ = plane.Stop() })
	}
	return plane, err
}

// Main is the TestMain of a package whose tests share what setUp makes in three minutes at most. It
// returns the exit code. Where the control plane is not built, nothing is set up: every test then says so
// by its name.
func Main(m interface{ Run() int }, setUp func(context.Context, *Setup) error) int {
	if len(kube.Missing()) > 0 {
		return m.Run()
	}
	s := &Setup{}
	defer s.clean()
	if err := s.open(setUp); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func (s *Setup) open(setUp func(context.Context, *Setup) error) (err error) {
	if s.Dir, err = os.MkdirTemp("", "evictgate-test-"); err != nil {
		return err
	}
	s.Cleanup(func() { _ = os.RemoveAll(s.Dir) })
	if s.Binary, err = Build(s.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return setUp(ctx, s)
}
