package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

const (
	// awaitFiles is how often absent files are looked for.
	awaitFiles = time.Second
	// rereadFiles bounds how long a change is missed when the file system
	// sends no event for it.
	rereadFiles = 10 * time.Second
)

// FileSource serves tls.crt and tls.key from a directory. It reads them again
// when they change; while what is there cannot be read or does not fit, the
// last good pair goes on serving.
type FileSource struct {
	cert, key     string
	names         []string
	log           logr.Logger
	await, reread time.Duration

	// watcher is nil until the files were good once: certwatcher.New insists
	// on that.
	watcher atomic.Pointer[certwatcher.CertWatcher]
}

// Files watches dir for tls.crt and tls.key, which need not be there yet.
// Ready demands that the certificate is good for every one of names (DNS names
// or IP addresses).
func Files(dir string, log logr.Logger, names ...string) *FileSource {
	return &FileSource{
		cert:   filepath.Join(dir, "tls.crt"),
		key:    filepath.Join(dir, "tls.key"),
		names:  names,
		log:    log.WithValues("dir", dir),
		await:  awaitFiles,
		reread: rereadFiles,
	}
}

// Start waits for the files, then follows them until ctx ends, when it returns
// nil. It gives up for no other reason.
func (s *FileSource) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		watcher := s.awaitPair(ctx)
		if watcher == nil {
			break
		}
		s.watcher.Store(watcher)
		// It returns early if the files went away before it could watch them.
		if err := watcher.Start(ctx); err != nil && ctx.Err() == nil {
			s.log.Error(err, "lost sight of the certificate files, looking for them again")
		}
	}
	return nil
}

// awaitPair returns nil when ctx ends first. Each reason to wait is logged
// once.
func (s *FileSource) awaitPair(ctx context.Context) *certwatcher.CertWatcher {
	var watcher *certwatcher.CertWatcher
	var told string
	_ = wait.PollUntilContextCancel(ctx, s.await, true, func(context.Context) (bool, error) {
		err := s.readable()
		if err == nil {
			watcher, err = certwatcher.New(s.cert, s.key)
		}
		if err == nil {
			return true, nil
		}
		if err.Error() != told {
			told = err.Error()
			s.log.Info("waiting for the certificate files", "reason", told)
		}
		return false, nil
	})
	if watcher == nil {
		return nil
	}
	s.log.Info("certificate files found")
	return watcher.WithWatchInterval(s.reread)
}

// GetCertificate is for tls.Config. It fails until the files were good once,
// with the reason.
func (s *FileSource) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if watcher := s.watcher.Load(); watcher != nil {
		return watcher.GetCertificate(hello)
	}
	return nil, s.absent()
}

// Ready is a healthz.Checker. It fails until the files were good once, and
// later when the certificate in use is not good now for every name. Files that
// go bad do not by themselves make a replica unready: that would take all
// replicas out of service at once while each has a good certificate in memory.
func (s *FileSource) Ready(*http.Request) error {
	cert, err := s.GetCertificate(nil)
	if err != nil {
		return err
	}
	if err = validity(cert.Leaf, time.Now()); err == nil {
		err = covers(cert.Leaf, s.names...)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", s.cert, err)
	if now := s.readable(); now != nil {
		return fmt.Errorf("%w; and it cannot be replaced: %w", err, now)
	}
	return err
}

// absent is why there is no pair in memory.
func (s *FileSource) absent() error {
	if err := s.readable(); err != nil {
		return err
	}
	return fmt.Errorf("certificate file %s was found and is being read", s.cert)
}

// readable says what is wrong with the files at this moment.
func (s *FileSource) readable() error {
	for _, path := range []string{s.cert, s.key} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("certificate file %s missing: mount the issued Secret there", path)
		}
	}
	if _, err := tls.LoadX509KeyPair(s.cert, s.key); err != nil {
		return fmt.Errorf("certificate files %s and %s cannot be used as a pair: %w", s.cert, s.key, err)
	}
	return nil
}

// NeedLeaderElection says that every replica runs its own source.
func (s *FileSource) NeedLeaderElection() bool { return false }
