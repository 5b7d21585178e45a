package certificates

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// mount keeps a directory as the kubelet keeps a volume of a Secret: the files are links through ..data,
// which is replaced in one step, the delay after the Secret has changed. It returns when the files are there.
func mount(t *testing.T, plane *kube.ControlPlane, namespace, secret string, delay time.Duration) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	var version string
	sync := func(wait time.Duration) bool {
		s, err := plane.Client.CoreV1().Secrets(namespace).Get(ctx, secret, metav1.GetOptions{})
		if err != nil || s.ResourceVersion == version {
			return false // a Secret that is gone leaves the files as they are
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		if s, err = plane.Client.CoreV1().Secrets(namespace).Get(ctx, secret, metav1.GetOptions{}); err != nil {
			return false
		}
		if err := project(dir, s.Data); err != nil {
			t.Errorf("write the volume: %v", err)
		}
		version = s.ResourceVersion
		return true
	}
	check(t, kube.Wait(t.Context(), "Secret "+secret, func(context.Context) (bool, error) { return sync(0), nil }))
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			sync(delay)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return dir
}

// project writes a new version beside the old one, and then lets ..data lead to it.
func project(dir string, data map[string][]byte) error {
	version, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return err
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(version, name), content, 0o600); err != nil {
			return err
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	next := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(version), next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		return err
	}
	for name := range data {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}
