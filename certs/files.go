package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

const (
	// awaitFiles is how often absent files are looked for.
	awaitFiles = time.Second
	// rereadFiles bounds how long a change is missed when the file system
	// sends no event for it.
	rereadFiles = 10 * time.Second
)

var errUncompared = errors.New("certificate not yet compared with the webhook configuration")

// FilesOptions are the inputs of [Files].
type FilesOptions struct {
	// Dir holds tls.crt and tls.key, which need not be there yet.
	Dir string
	// Names are DNS names and addresses that a certificate must be good for,
	// beside those that the webhook configuration calls.
	Names []string
	// RESTConfig reaches the API server. It is copied. [FilesRules] says what
	// it must be allowed to do. Without it there is nobody to ask who trusts a
	// certificate: every pair is served as soon as it is there.
	RESTConfig *rest.Config
	// WebhookConfiguration names the ValidatingWebhookConfiguration whose
	// caBundle must trust a certificate. Who writes it does not matter.
	WebhookConfiguration string
	// Webhooks are those of them that must trust it.
	Webhooks Webhooks
	// Settle is as in [SelfOptions].
	Settle time.Duration
	// Logger receives what this source says.
	Logger logr.Logger
}

// FileSource serves tls.crt and tls.key from a directory. It reads them again
// when they change; while what is there cannot be read, does not fit or is not
// trusted by the API server, the last good pair goes on serving as long as it
// is valid.
type FileSource struct {
	cert, key     string
	names         []string
	log           logr.Logger
	await, reread time.Duration

	// watcher is nil until the files were good once: certwatcher.New insists
	// on that.
	watcher atomic.Pointer[certwatcher.CertWatcher]
	changed chan struct{} // holds one token when the pair changed

	// These are nil without a cluster.
	*threshold
	cache  cache.Cache
	passed atomic.Pointer[tls.Certificate] // the last pair that went over the threshold
}

// Files prepares the source without calling the API server.
func Files(o FilesOptions) (*FileSource, error) {
	s := &FileSource{
		cert:    filepath.Join(o.Dir, "tls.crt"),
		key:     filepath.Join(o.Dir, "tls.key"),
		names:   o.Names,
		log:     o.Logger.WithValues("dir", o.Dir),
		await:   awaitFiles,
		reread:  rereadFiles,
		changed: make(chan struct{}, 1),
	}
	if o.RESTConfig == nil {
		return s, nil
	}
	if o.WebhookConfiguration == "" {
		return nil, errors.New("prepare certificate files: no name of a ValidatingWebhookConfiguration")
	}
	seen := newTrust(o.WebhookConfiguration)
	seen.names, seen.webhooks, seen.log = o.Names, o.Webhooks, o.Logger
	var err error
	if s.cache, err = newCache(clocked(o.RESTConfig, seen.clock), o.WebhookConfiguration); err != nil {
		return nil, fmt.Errorf("prepare certificate files: %w", err)
	}
	s.threshold = &threshold{trust: seen, settle: max(0, orDefault(o.Settle, defaultSettle)), log: s.log}
	return s, nil
}

// Start waits for the files, then follows them until ctx ends, when it returns
// nil. It gives up for no other reason.
func (s *FileSource) Start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.read(ctx); return nil })
	if s.threshold != nil {
		if err := s.trust.follow(ctx, s.cache); err != nil {
			return fmt.Errorf("start certificate files: %w", err)
		}
		group.Go(func() error { return wrap("watch the webhook configuration", s.cache.Start(ctx)) })
		group.Go(func() error { s.letPass(ctx); return nil })
	}
	return group.Wait()
}

// read keeps a watcher on the files.
func (s *FileSource) read(ctx context.Context) {
	for ctx.Err() == nil {
		watcher := s.awaitPair(ctx)
		if watcher == nil {
			break
		}
		s.watcher.Store(watcher)
		watcher.RegisterCallback(func(tls.Certificate) { s.tell() })
		// It returns early if the files went away before it could watch them.
		if err := watcher.Start(ctx); err != nil && ctx.Err() == nil {
			s.log.Error(err, "lost sight of the certificate files, looking for them again")
		}
	}
}

func (s *FileSource) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// letPass brings each pair over the threshold. A pair that is replaced while it
// waits is forgotten.
func (s *FileSource) letPass(ctx context.Context) {
	until := interrupts{stopped: ctx.Done(), superseded: s.changed}
	for ctx.Err() == nil {
		pair := s.newest()
		if pair == nil || pair == s.passed.Load() {
			select {
			case <-until.stopped:
			case <-until.superseded:
			}
			continue
		}
		s.begin()
		if err := s.pass(until, chain(pair)...); err == nil {
			s.passed.Store(pair)
			s.log.Info("serving a certificate from the files", "serial", pair.Leaf.SerialNumber.String(), "notAfter", stamp(pair.Leaf.NotAfter))
		}
	}
}

// chain is what the API server is sent, leaf first.
func chain(pair *tls.Certificate) []*x509.Certificate {
	certs := []*x509.Certificate{pair.Leaf}
	for _, raw := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(raw); err == nil {
			certs = append(certs, cert)
		}
	}
	return certs
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
func (s *FileSource) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := s.inUse(); pair != nil {
		return pair, nil
	}
	return nil, s.absent()
}

// inUse is the pair that went over the threshold last, as long as it is valid.
// Where there is none, the newest is served without being trusted: that is no
// worse than nothing, and shows whoever looks what is there.
func (s *FileSource) inUse() *tls.Certificate {
	newest := s.newest()
	if s.threshold == nil {
		return newest
	}
	passed := s.passed.Load()
	if passed != nil && validity(passed.Leaf, s.trust.clock.now()) == nil {
		return passed
	}
	return newest
}

// newest is the pair that was read last; nil if there was none yet.
func (s *FileSource) newest() *tls.Certificate {
	watcher := s.watcher.Load()
	if watcher == nil {
		return nil
	}
	pair, _ := watcher.GetCertificate(nil) // never fails
	return pair
}

// Ready is a healthz.Checker. It fails until the files were good once and the
// API server trusts them, and later when the certificate in use is not good now
// for every name, or not trusted any more. Files that go bad do not by
// themselves make a replica unready: that would take all replicas out of
// service at once while each has a good certificate in memory.
func (s *FileSource) Ready(*http.Request) error {
	pair := s.inUse()
	if pair == nil {
		return s.absent()
	}
	err := s.judge(pair)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", s.cert, err)
	if now := s.readable(); now != nil {
		return fmt.Errorf("%w; and it cannot be replaced: %w", err, now)
	}
	return err
}

// judge says what is wrong with the pair in use.
func (s *FileSource) judge(pair *tls.Certificate) error {
	if s.threshold == nil {
		if err := validity(pair.Leaf, time.Now()); err != nil {
			return err
		}
		return covers(pair.Leaf, s.names...)
	}
	if err := s.trust.check(pair.Leaf, chain(pair)[1:]...); err != nil {
		return err
	}
	if s.passed.Load() != nil {
		return nil
	}
	if err := s.held(); err != nil { // trusted, but it has to settle
		return err
	}
	return errUncompared
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
			return fmt.Errorf("certificate file %s missing: mount the Secret there that holds the issued certificate", path)
		}
	}
	if _, err := tls.LoadX509KeyPair(s.cert, s.key); err != nil {
		return fmt.Errorf("certificate files %s and %s cannot be used as a pair: %w", s.cert, s.key, err)
	}
	return nil
}

// NeedLeaderElection says that every replica runs its own source.
func (s *FileSource) NeedLeaderElection() bool { return false }

// Foreign is how many things the webhook configuration holds that are not
// Evictgate's, as last seen; 0 without a cluster.
func (s *FileSource) Foreign() int {
	if s.threshold == nil {
		return 0
	}
	return s.trust.Foreign()
}
