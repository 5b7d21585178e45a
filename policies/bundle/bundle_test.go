package bundle

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"go.uber.org/goleak"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const poll = 20 * time.Millisecond

// server serves one bundle, with an ETag, as a static file server does.
type server struct {
	mu     sync.Mutex
	body   []byte
	token  string // demanded; empty: none
	status int    // instead of the bundle
	answer func(http.ResponseWriter, *http.Request)

	full, unmodified int
}

func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) serve(body []byte) { s.set(func(s *server) { s.body = body }) }

// counts are the answers with a body and those without.
func (s *server) counts() (full, unmodified int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full, s.unmodified
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(s.body))
	switch {
	case s.answer != nil:
		s.answer(w, r)
	case s.token != "" && r.Header.Get("Authorization") != s.token:
		w.WriteHeader(http.StatusUnauthorized)
	case s.status != 0:
		w.WriteHeader(s.status)
	case r.URL.Path != "/policies/evict.tar.gz":
		w.WriteHeader(http.StatusNotFound)
	case r.Header.Get("If-None-Match") == etag:
		s.unmodified++
		w.WriteHeader(http.StatusNotModified)
	default:
		s.full++
		w.Header().Set("ETag", etag)
		_, _ = w.Write(s.body)
	}
}

// start serves over HTTP and returns the URL of the bundle.
func start(t *testing.T, s *server) string {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return web.URL + "/policies/evict.tar.gz"
}

// follow follows a bundle until the test ends. What is told comes out of the channel: the revision and
// the names of the files, or "failed: " and the error. No goroutine may be left at the end.
func follow(t *testing.T, o Options, uses ...func() bool) (*Source, <-chan string) {
	t.Helper()
	told := make(chan string, 100)
	var s *Source
	if o.MaxPoll == 0 {
		o.MinPoll, o.MaxPoll = poll, poll
	}
	s, err := New(o, func(files []policies.File, err error) bool {
		if err != nil {
			told <- "failed: " + err.Error()
			return false
		}
		told <- strings.TrimSpace(s.Revision() + ": " + names(s, files))
		return len(uses) == 0 || uses[0]()
	})
	must(t, err)
	run(t, s)
	return s, told
}

func run(t *testing.T, s *Source) (stop func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func names(s *Source, files []policies.File) string {
	var list []string
	for _, f := range files {
		list = append(list, strings.TrimPrefix(f.Name, s.Name()+"!/"))
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("told (-want +got):\n%s", diff)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("nothing told, want %q", want)
	}
}

// expectFailure wants a failure of the bundle that says want.
func expectFailure(t *testing.T, s *Source, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if !strings.HasPrefix(got, "failed: "+s.Name()+": ") || !strings.Contains(got, want) {
			t.Fatalf("told %q, want a failure of %s that says %q", got, s.Name(), want)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("nothing told, want a failure that says %q", want)
	}
}

// silence wants that several more looks at the server tell nothing.
func silence(t *testing.T, told <-chan string) {
	t.Helper()
	select {
	case got := <-told:
		t.Fatalf("told %q, want nothing", got)
	case <-time.After(8 * poll):
	}
}

func TestABundleIsFollowed(t *testing.T) {
	files := map[string]string{".manifest": manifest("r1"), "eviction/a/a.rego": regoA, "bind.yaml": yamlC}
	s := &server{body: tarball(t, files)}
	source, told := follow(t, Options{URL: start(t, s)})
	expect(t, told, "r1: bind.yaml eviction/a/a.rego")
	silence(t, told)
	full, unmodified := s.counts()
	if full != 1 || unmodified < 2 {
		t.Errorf("%d answers with the bundle and %d without, want 1 and some", full, unmodified)
	}

	s.serve(tarball(t, map[string]string{".manifest": manifest("r2"), "b.rego": regoB}))
	expect(t, told, "r2: b.rego")
	if !strings.HasSuffix(source.Name(), "/policies/evict.tar.gz") || source.NeedLeaderElection() {
		t.Errorf("source %s, leader election %t", source.Name(), source.NeedLeaderElection())
	}
}

func TestTheFilesCompile(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": "package eviction.a\n\ndeny contains {\"reason\": \"a\", \"detail\": \"b\"} if input.pod\n", "bind.yml": yamlC})}
	got := make(chan []policies.File, 1)
	bundle, err := New(Options{URL: start(t, s), MinPoll: time.Hour}, func(files []policies.File, err error) bool {
		if err != nil {
			t.Error(err)
		}
		got <- files
		return true
	})
	must(t, err)
	run(t, bundle)
	files := <-got
	if files[0].Name != bundle.Name()+"!/a.rego" || string(files[1].Data) != yamlC {
		t.Errorf("files %q, the second with %q", files[0].Name, files[1].Data)
	}
	set, err := source.Compile(files)
	must(t, err)
	var ids []string
	for _, p := range set.Policies() {
		ids = append(ids, p.Name)
	}
	if diff := cmp.Diff([]string{"a", "c"}, ids); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
}

// OPA's own writer and signer make the bundle, as `opa build --signing-key` does.
func TestABundleThatOPABuiltAndSigned(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	k := newKey(t, "PS384", private)
	b := opabundle.Bundle{
		Manifest: opabundle.Manifest{Revision: "built", Roots: &[]string{"eviction"}},
		Data:     map[string]any{},
		Modules:  []opabundle.ModuleFile{{URL: "/a.rego", Path: "/a.rego", Raw: []byte(regoA), Parsed: ast.MustParseModule(regoA)}},
	}
	must(t, b.GenerateSignature(opabundle.NewSigningConfig(k.private, k.algorithm, ""), "release", true))
	var packed bytes.Buffer
	must(t, opabundle.Write(&packed, b))
	s := &server{body: packed.Bytes()}
	url := start(t, s)
	_, told := follow(t, Options{URL: url, PublicKey: k.file, Algorithm: "PS384"})
	expect(t, told, "built: a.rego")

	// The same key under its default algorithm is not the same trust.
	other, told := follow(t, Options{URL: url, PublicKey: k.file})
	expectFailure(t, other, told, "failed to verify JWT signature")
}

func TestWithAKeyOnlyWhatIsSignedIsUsed(t *testing.T) {
	k, stranger := newECDSA(t), newECDSA(t)
	good := map[string]string{".manifest": manifest("good"), "a.rego": regoA, "bind.yaml": yamlC, "suite.txt": "text\n"}
	next := map[string]string{".manifest": manifest("next"), "a.rego": regoA, "bind.yaml": yamlC}
	changed := func(file, old, new string) map[string]string {
		all := k.signed(t, next)
		if !strings.Contains(all[file], old) {
			t.Fatalf("%s does not hold %q", file, old)
		}
		all[file] = strings.Replace(all[file], old, new, 1)
		return all
	}
	added := func(file, text string) map[string]string {
		all := k.signed(t, next)
		all[file] = text
		return all
	}
	missing := k.signed(t, next)
	delete(missing, "bind.yaml")
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"signed with another key":              {stranger.signed(t, next), "failed to verify JWT signature"},
		"not signed":                           {next, "bundle missing .signatures.json file"},
		"a byte of a policy changed":           {changed("a.rego", "deny", "Deny"), "a.rego: digest mismatch"},
		"a byte of an EvictionPolicy changed":  {changed("bind.yaml", "name: c", "name: d"), "bind.yaml: digest mismatch"},
		"the revision changed":                 {changed(".manifest", "next", "text"), ".manifest: digest mismatch"},
		"a policy added":                       {added("b.rego", regoB), "file b.rego not included in bundle signature"},
		"an EvictionPolicy added":              {added("x/other.yml", yamlC), "file x/other.yml not included in bundle signature"},
		"the same EvictionPolicy by two names": {added("./bind.yaml", yamlC), "file ./bind.yaml not included in bundle signature"},
		"an EvictionPolicy left out":           {missing, "file(s) [bind.yaml] specified in bundle signatures but not found"},
		"another scope":                        {k.signed(t, next), "scope mismatch"},
		"a delta":                              {map[string]string{"patch.json": `{"data": [{"op": "upsert", "path": "/a", "value": 1}]}`}, "delta bundles do not support signature verification"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{body: tarball(t, k.signed(t, good))}
			o := Options{URL: start(t, s), PublicKey: k.file}
			if name == "another scope" {
				o.Scope = "write"
				source, told := follow(t, o)
				expectFailure(t, source, told, tt.want)
				return
			}
			source, told := follow(t, o)
			expect(t, told, "good: a.rego bind.yaml")
			s.serve(tarball(t, tt.files))
			expectFailure(t, source, told, tt.want)
			silence(t, told)
			if source.Revision() != "good" {
				t.Errorf("revision %q after the failure", source.Revision())
			}
			s.serve(tarball(t, k.signed(t, next)))
			expect(t, told, "next: a.rego bind.yaml")
		})
	}
}

// A signature covers the value of data.yaml, which is that of its first document, and not its bytes.
func TestASecondDocumentInDataYAMLIsNoPolicy(t *testing.T) {
	k := newECDSA(t)
	files := k.signed(t, map[string]string{"a.rego": regoA, "data.yaml": "{}\n"})
	files["data.yaml"] = "{}\n---\n" + yamlC
	s := &server{body: tarball(t, files)}
	_, told := follow(t, Options{URL: start(t, s), PublicKey: k.file})
	expect(t, told, ": a.rego")
}

func TestAFailureIsToldOnceAndEndsWithTheNextGoodBundle(t *testing.T) {
	good := tarball(t, map[string]string{".manifest": manifest("good"), "a.rego": regoA})
	for name, tt := range map[string]struct {
		bad  func(*server)
		want string
	}{
		"not found":     {func(s *server) { s.status = http.StatusNotFound }, "server replied with Not Found"},
		"broken":        {func(s *server) { s.status = http.StatusInternalServerError }, "server replied with Internal Server Error"},
		"not a tarball": {func(s *server) { s.body = []byte("<html>a login page</html>") }, "gzip: invalid header"},
		"truncated":     {func(s *server) { s.body = good[:len(good)/2] }, "unexpected EOF"},
		"no Rego":       {func(s *server) { s.body = tarball(t, map[string]string{"a.rego": "pack\n"}) }, "rego_parse_error"},
		"no policy":     {func(s *server) { s.body = tarball(t, map[string]string{"a_test.rego": regoA}) }, "no policy in the bundle"},
		"data": {func(s *server) {
			s.body = tarball(t, map[string]string{"a.rego": regoA, "data.json": `{"kind": 1, "spec": {}}`})
		}, "holds data (kind, spec)"},
		"a delta": {func(s *server) {
			s.body = tarball(t, map[string]string{"patch.json": `{"data": [{"op": "upsert", "path": "/a", "value": 1}]}`})
		}, "delta bundle"},
		"signed, though no key was given": {func(s *server) {
			s.body = tarball(t, newECDSA(t).signed(t, map[string]string{"a.rego": regoA}))
		}, "verification key not provided"},
		"cut off on the way": {func(s *server) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100000")
				_, _ = w.Write(good)
			}
		}, "unexpected EOF"},
		"reset on the way": {func(s *server) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{body: good}
			source, told := follow(t, Options{URL: start(t, s)})
			expect(t, told, "good: a.rego")
			s.set(tt.bad)
			expectFailure(t, source, told, tt.want)
			silence(t, told)
			// The same bundle again is not new, but the failure is over.
			s.set(func(s *server) { s.body, s.status, s.answer = good, 0, nil })
			expect(t, told, "good: a.rego")
			silence(t, told)
		})
	}
}

func TestAServerThatIsAwayAtStart(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	address, err := kube.FreeAddress()
	must(t, err)
	source, told := follow(t, Options{URL: "http://" + address + "/policies/evict.tar.gz"})
	expectFailure(t, source, told, "connection refused")
	silence(t, told)

	listener, err := net.Listen("tcp", address)
	must(t, err)
	web := &http.Server{Handler: s}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	expect(t, told, ": a.rego")
	must(t, web.Close())
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	expectFailure(t, source, told, "connection refused")
}

func TestATokenIsReadForEveryRequest(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{".manifest": manifest("one"), "a.rego": regoA}), token: "Bearer first"}
	file := writeTemp(t, "token", []byte("first\n"))
	source, told := follow(t, Options{URL: start(t, s), TokenFile: file})
	expect(t, told, "one: a.rego")
	s.set(func(s *server) { s.token = "Bearer second" })
	expectFailure(t, source, told, "Unauthorized")
	must(t, os.WriteFile(file, []byte("second\n"), 0o600))
	expect(t, told, "one: a.rego")
	s.set(func(s *server) {
		s.token, s.body = "Basic cm9ib3Q6cHc=", tarball(t, map[string]string{".manifest": manifest("two"), "a.rego": regoA})
	})
	expectFailure(t, source, told, "Unauthorized")
	must(t, os.WriteFile(file, []byte("robot:pw"), 0o600))
	expect(t, told, "two: a.rego")
	must(t, os.Remove(file))
	expectFailure(t, source, told, "read the token")
}

func TestTheCachedBundleServesWhileTheServerIsAway(t *testing.T) {
	k := newECDSA(t)
	s := &server{body: tarball(t, k.signed(t, map[string]string{".manifest": manifest("kept"), "a.rego": regoA, "bind.yaml": yamlC}))}
	o := Options{URL: start(t, s), PublicKey: k.file, Cache: filepath.Join(t.TempDir(), "new", "cache")}
	t.Run("it is kept", func(t *testing.T) {
		_, told := follow(t, o)
		expect(t, told, "kept: a.rego bind.yaml")
	})
	t.Run("a bundle that is not used is not kept", func(t *testing.T) {
		_, told := follow(t, o, func() bool { return false })
		expect(t, told, "kept: a.rego bind.yaml")
		s.serve(tarball(t, k.signed(t, map[string]string{".manifest": manifest("useless"), "b.rego": regoB})))
		expect(t, told, "useless: b.rego")
	})
	s.set(func(s *server) { s.status = http.StatusServiceUnavailable })
	t.Run("it is what a start without the server gets", func(t *testing.T) {
		source, told := follow(t, o)
		expect(t, told, "kept: a.rego bind.yaml")
		expectFailure(t, source, told, "Service Unavailable")
		s.set(func(s *server) { s.status = 0 })
		expect(t, told, "useless: b.rego")
		s.set(func(s *server) { s.status = http.StatusServiceUnavailable })
		expectFailure(t, source, told, "Service Unavailable")
	})
	t.Run("what was used last was kept", func(t *testing.T) {
		source, told := follow(t, o)
		expect(t, told, "useless: b.rego")
		expectFailure(t, source, told, "Service Unavailable")
	})
	t.Run("with another key it is not used", func(t *testing.T) {
		var log bytes.Buffer
		other := o
		other.PublicKey, other.Log = newECDSA(t).file, slog.New(slog.NewTextHandler(&log, nil))
		source, told := follow(t, other)
		expectFailure(t, source, told, "Service Unavailable")
		if !strings.Contains(log.String(), "the cached bundle is not used") || !strings.Contains(log.String(), "failed to verify JWT signature") {
			t.Errorf("log:\n%s", log.String())
		}
	})
	t.Run("changed on disk it is not used", func(t *testing.T) {
		cached, err := filepath.Glob(filepath.Join(o.Cache, "*"))
		must(t, err)
		if len(cached) != 1 {
			t.Fatalf("the cache holds %v, want one file", cached)
		}
		must(t, os.WriteFile(cached[0], tarball(t, map[string]string{"b.rego": regoB}), 0o600))
		source, told := follow(t, o)
		expectFailure(t, source, told, "Service Unavailable")
	})
}

func TestTheCachedBundleIsNoNewsWhenTheServerHasTheSame(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	o := Options{URL: start(t, s), Cache: t.TempDir()}
	for range 2 {
		_, told := follow(t, o)
		expect(t, told, ": a.rego")
		silence(t, told)
	}
}

func TestADownloadHasABound(t *testing.T) {
	small := tarball(t, map[string]string{"a.rego": regoA})
	zeros := strings.Repeat("\x00", 100_000)
	for name, body := range map[string][]byte{
		"in bytes":                    []byte(strings.Repeat("x", 60_001)),
		"unpacked, one file":          tarball(t, map[string]string{"a.rego": regoA, "zeros": zeros}),
		"unpacked, many files":        tarball(t, map[string]string{"a.rego": regoA, "1": zeros[:20_000], "2": zeros[:20_000], "3": zeros[:20_000]}),
		"unpacked, nothing but names": tarball(t, manyEmpty(200)),
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{body: body}
			told := make(chan string, 10)
			source, err := New(Options{URL: start(t, s), MinPoll: poll, MaxPoll: poll}, func(files []policies.File, err error) bool {
				told <- fmt.Sprint(len(files), " ", err)
				return true
			})
			must(t, err)
			source.access.limit = 60_000
			run(t, source)
			if got := <-told; !strings.Contains(got, "the bundle has more than 60000 bytes") {
				t.Errorf("told %q", got)
			}
			s.serve(small)
			if got := <-told; got != "1 <nil>" {
				t.Errorf("told %q", got)
			}
		})
	}
}

func manyEmpty(n int) map[string]string {
	files := map[string]string{"a.rego": regoA}
	for i := range n {
		files[fmt.Sprint("empty", i)] = ""
	}
	return files
}

func TestADownloadThatStandsStillIsGivenUp(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	release := make(chan struct{})
	defer close(release)
	stall := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(s.body[:10])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	web := httptest.NewServer(http.HandlerFunc(stall))
	t.Cleanup(web.Close)
	told := make(chan error, 10)
	source, err := New(Options{URL: web.URL + "/b.tar.gz", MinPoll: poll, MaxPoll: poll}, func(_ []policies.File, err error) bool {
		told <- err
		return true
	})
	must(t, err)
	source.patience = 100 * time.Millisecond
	stop := run(t, source)
	if err := <-told; !strings.Contains(err.Error(), "context deadline exceeded") {
		t.Errorf("told %v", err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestStartEndsInTheMiddleOfADownload(t *testing.T) {
	arrived := make(chan struct{}, 10)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(web.Close)
	source, err := New(Options{URL: web.URL + "/b.tar.gz"}, func(_ []policies.File, err error) bool {
		t.Errorf("told %v after the end", err)
		return true
	})
	must(t, err)
	stop := run(t, source)
	<-arrived
	stop()
}

func TestTLS(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	web := httptest.NewTLSServer(s)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(web.Close)
	url := web.URL + "/policies/evict.tar.gz"
	_, told := follow(t, Options{URL: url, CAFile: caOf(t, web)})
	expect(t, told, ": a.rego")

	source, told := follow(t, Options{URL: url})
	expectFailure(t, source, told, "certificate signed by unknown authority")

	plain := start(t, s)
	s.set(func(s *server) {
		s.answer = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, plain+"?grant=secret", http.StatusFound)
		}
	})
	source, told = follow(t, Options{URL: url, CAFile: caOf(t, web)})
	expectFailure(t, source, told, "which is not encrypted")
}

func caOf(t *testing.T, web *httptest.Server) string {
	t.Helper()
	return writeTemp(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
}

// Some servers take a .tar.gz for a compressed .tar, and say so.
func TestATarballWithAContentEncoding(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(s.body)
	}
	_, told := follow(t, Options{URL: start(t, s)})
	expect(t, told, ": a.rego")
}

// A URL may grant access by its query, also that of a redirect.
func TestQueriesAreSentAndNotTold(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"a.rego": regoA})}
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "sig=secret&x=1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.Redirect(w, r, "http://127.0.0.1:1/elsewhere?sig=secret", http.StatusFound)
	}
	source, told := follow(t, Options{URL: start(t, s) + "?sig=secret&x=1"})
	got := <-told
	if !strings.Contains(got, "http://127.0.0.1:1/elsewhere") || strings.Contains(got, "secret") || strings.Contains(source.Name(), "secret") {
		t.Errorf("told %q of %s", got, source.Name())
	}
}

func TestATokenDoesNotFollowARedirectToAnotherServer(t *testing.T) {
	seen := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(other.Close)
	target := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	s := &server{answer: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+"/x.tar.gz", http.StatusFound)
	}}
	source, told := follow(t, Options{URL: start(t, s), TokenFile: writeTemp(t, "token", []byte("secret"))})
	expectFailure(t, source, told, "I'm a teapot")
	if got := <-seen; got != "" {
		t.Errorf("the other server saw %q", got)
	}
}

func TestWhatIsNotProtectedIsLoggedOnce(t *testing.T) {
	k := newECDSA(t)
	s := &server{body: tarball(t, k.signed(t, map[string]string{"a.rego": regoA}))}
	for name, tt := range map[string]struct {
		key, token string
		want       []string
	}{
		"no key":          {"", "", []string{"bundles need not be signed"}},
		"a key":           {k.file, "", nil},
		"a key and token": {k.file, writeTemp(t, "token", []byte("x")), []string{"the token is sent without encryption"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			told := make(chan error, 10)
			source, err := New(Options{URL: start(t, s), PublicKey: tt.key, TokenFile: tt.token, MinPoll: poll, Log: slog.New(slog.NewTextHandler(&log, nil))}, func(_ []policies.File, err error) bool {
				told <- err
				return true
			})
			must(t, err)
			stop := run(t, source)
			if err := <-told; tt.key != "" {
				must(t, err)
			}
			time.Sleep(4 * poll)
			stop()
			lines := slices.Collect(strings.Lines(log.String()))
			if len(lines) != len(tt.want) {
				t.Fatalf("logged %q, want %d lines", lines, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], "level=WARN") || !strings.Contains(lines[i], want) {
					t.Errorf("logged %q, want a warning that says %q", lines[i], want)
				}
			}
		})
	}
}

func TestFileNames(t *testing.T) {
	s := &server{body: tarball(t, map[string]string{"/deep/x.rego": regoA, "./y.yaml": yamlC})}
	got := make(chan []policies.File, 1)
	url := start(t, s)
	source, err := New(Options{URL: url, MinPoll: time.Hour}, func(files []policies.File, err error) bool {
		if err != nil {
			t.Error(err)
		}
		got <- files
		return true
	})
	must(t, err)
	run(t, source)
	var list []string
	for _, f := range <-got {
		list = append(list, f.Name)
	}
	if diff := cmp.Diff([]string{url + "!/y.yaml", url + "!/deep/x.rego"}, list); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestABundleHasABoundOfFiles(t *testing.T) {
	if err := unpacks(tarball(t, manyEmpty(maxFiles)), maxBytes); err == nil || err.Error() != "the bundle has more than 10000 files" {
		t.Errorf("%d files: %v", maxFiles+1, err)
	}
	if err := unpacks(tarball(t, manyEmpty(maxFiles-1)), maxBytes); err != nil {
		t.Errorf("%d files: %v", maxFiles, err)
	}
}
