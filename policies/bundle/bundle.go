// Package bundle is a source of policies that follows an OPA bundle: a tarball on an HTTP server, or
// a layer of an image in an OCI registry. OPA's own code downloads, verifies and reads it.
//
// With a public key, nothing is used that the bundle's signature does not cover. A download that
// fails in any way changes nothing: the caller goes on with what it was given last.
package bundle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"sync/atomic"
	"time"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/download"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/evictgate/evictgate/policies"
)

const (
	defaultMinPoll = 60 * time.Second
	defaultMaxPoll = 120 * time.Second
	// firstRetry is the pause after the first failure; it grows up to MaxPoll.
	firstRetry = time.Second
	// attempt is how long one download may take.
	attempt = time.Minute
	// maxBytes limits a bundle, packed and unpacked. Policies are text: a library of hundreds has
	// less than 1 MiB.
	maxBytes = 32 << 20
	// maxFiles limits the files of a bundle, whatever they hold.
	maxFiles = 10_000
	// maxTold bounds the memory of what was told.
	maxTold = 32
)

// Options say where a bundle is and how it is trusted.
type Options struct {
	// URL is https://host/path/bundle.tar.gz, http://…, oci://registry/repository:tag, or
	// oci+http://… for a registry without TLS.
	URL string
	// PublicKey is a file with the PEM public key or certificate that the bundle's signature must
	// verify with. Without one, only bundles without a signature are taken, and nothing is verified.
	PublicKey string
	// Algorithm is that of the signature, such as RS512 or PS256; by default RS256 for an RSA key
	// and, by its curve, ES256, ES384 or ES512 for an ECDSA key.
	Algorithm string
	// Scope is what the signature's scope must be, as in OPA; by default it must have none.
	Scope string
	// TokenFile holds what the server wants to see: a bearer token, or user:password. It is read
	// for every request.
	TokenFile string
	// CAFile holds PEM certificates that are trusted beside the system's.
	CAFile string
	// MinPoll and MaxPoll bound the time between two looks at the server, which is chosen at
	// random; by default 60 s and 120 s.
	MinPoll, MaxPoll time.Duration
	// Cache is a directory in which the last good bundle is kept, to start with while the server is
	// away. It is verified like a download. An OCI bundle is unpacked there, too, otherwise in the
	// system's temporary directory.
	Cache string
	// Log may be nil.
	Log *slog.Logger
}

// OnUpdate is told of every new bundle and of every failure, once for each text; when a failure is
// over it is given the files again, though they are the same. It returns whether the files are in
// use now: only then the bundle is kept in the cache. It is called from Start only, never twice at
// the same time.
type OnUpdate func(files []policies.File, err error) (used bool)

// Source follows one bundle.
type Source struct {
	location
	options  Options
	onUpdate OnUpdate
	log      *slog.Logger
	trust    *opabundle.VerificationConfig
	access   *access
	cache    string // the file; empty: none
	patience time.Duration

	revision atomic.Pointer[string]

	// What follows belongs to Start.
	puller  puller // nil until the next look
	store   string // the directory that puller works in; empty: none
	updates chan download.Update

	etag   string          // of the bundle in files
	digest string          // of its bytes
	raw    []byte          // what is to be kept in the cache; nil: kept
	files  []policies.File // nil: no good bundle was seen yet
	told   map[string]bool // the failures since then
}

// New checks the options; nothing is downloaded before Start.
func New(o Options, onUpdate OnUpdate) (*Source, error) {
	l, err := parseLocation(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Source{
		location: l, options: o, onUpdate: onUpdate, log: o.Log, patience: attempt,
		updates: make(chan download.Update, 1), told: map[string]bool{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.options.setPolls(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	if s.trust, err = verification(o); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	if s.access, err = newAccess(l, o); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	if s.cache, err = prepareCache(l, o.Cache); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return s, nil
}

func (o *Options) setPolls() error {
	if o.MinPoll < 0 || o.MaxPoll < 0 {
		return errors.New("poll intervals must not be negative")
	}
	o.MinPoll = cmp.Or(o.MinPoll, o.MaxPoll/2, defaultMinPoll)
	o.MaxPoll = cmp.Or(o.MaxPoll, o.MinPoll*2)
	if o.MaxPoll < o.MinPoll {
		return fmt.Errorf("the longest poll interval %s is less than the shortest, %s", o.MaxPoll, o.MinPoll)
	}
	return nil
}

// Name is the URL without its query, for messages.
func (s *Source) Name() string { return s.name }

// Revision is what the manifest of the bundle that was handed over last calls itself; empty without
// one. It may be called at any time.
func (s *Source) Revision() string {
	if r := s.revision.Load(); r != nil {
		return *r
	}
	return ""
}

// NeedLeaderElection is false: every replica follows its bundle.
func (*Source) NeedLeaderElection() bool { return false }

// Start follows the bundle until ctx is done, when it returns nil. It begins with the cached bundle.
func (s *Source) Start(ctx context.Context) error {
	defer s.access.close()
	defer s.close()
	s.warn()
	s.useCached()
	for failures := 0; ctx.Err() == nil; {
		if err := s.poll(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		sleep(ctx, s.pause(failures))
	}
	return nil
}

// warn says once what this source does not protect from.
func (s *Source) warn() {
	if s.trust == nil {
		s.log.Warn("bundles need not be signed: whoever can write to the server can change the policies; give a public key", "bundle", s.name)
	}
	if s.options.TokenFile != "" && !s.secure {
		s.log.Warn("the token is sent without encryption", "bundle", s.name)
	}
}

// pause is the time until the next look.
func (s *Source) pause(failures int) time.Duration {
	if failures > 0 {
		return util.DefaultBackoff(float64(firstRetry), float64(s.options.MaxPoll), failures)
	}
	return s.options.MinPoll + rand.N(s.options.MaxPoll-s.options.MinPoll+1)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// poll looks at the server once and tells what came of it.
func (s *Source) poll(ctx context.Context) error {
	u := s.pull(ctx)
	switch {
	case ctx.Err() != nil: // stopped: what came of it is nobody's business
		return ctx.Err()
	case u.Error == nil && u.Bundle == nil && s.files != nil: // not modified
		s.recovered()
		return nil
	}
	s.close()
	err := s.accept(u)
	if err != nil {
		s.fail(err)
	}
	return err
}

// accept takes what OPA downloaded and verified.
func (s *Source) accept(u download.Update) error {
	if u.Error != nil {
		return u.Error
	}
	if u.Bundle == nil {
		return errors.New("the server says that nothing has changed, though nothing was downloaded yet")
	}
	raw, err := io.ReadAll(u.Raw)
	if err != nil {
		return err
	}
	if err := s.take(u.Bundle, raw); err != nil {
		return err
	}
	s.etag = u.ETag
	return nil
}

// take makes a verified bundle the current one. The same bytes again are not news.
func (s *Source) take(b *opabundle.Bundle, raw []byte) error {
	files, err := filesOf(b, raw, s.name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	if digest := hex.EncodeToString(sum[:]); digest != s.digest {
		s.digest, s.files, s.raw = digest, files, raw
		s.revision.Store(&b.Manifest.Revision)
		s.deliver()
		return nil
	}
	s.recovered()
	return nil
}

// recovered tells that the failures are over, if there were any.
func (s *Source) recovered() {
	if len(s.told) > 0 {
		s.deliver()
	}
}

func (s *Source) deliver() {
	clear(s.told)
	if !s.onUpdate(s.files, nil) || s.cache == "" || s.raw == nil {
		return
	}
	if err := writeFile(s.cache, s.raw); err != nil {
		s.log.Warn("the bundle is not kept in the cache", "bundle", s.name, "error", err.Error())
		return
	}
	s.raw = nil
}

// query matches what follows the ? of a URL in a message: it may hold a signature that grants access.
var query = regexp.MustCompile(`(https?://[^\s"'?]+)\?[^\s"']*`)

func (s *Source) fail(err error) {
	text := s.name + ": " + query.ReplaceAllString(err.Error(), "$1")
	if s.told[text] {
		return
	}
	if len(s.told) == maxTold {
		clear(s.told)
	}
	s.told[text] = true
	s.onUpdate(nil, errors.New(text))
}
