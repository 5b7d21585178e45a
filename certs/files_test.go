package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"k8s.io/client-go/rest"
)

// pair is a certificate with its key as files hold them.
type pair struct {
	cert, key []byte
	serial    *big.Int
}

func newPair(t *testing.T, ca issuer, from time.Time, names ...string) pair {
	t.Helper()
	cert, key := ca.leaf(t, from, names...)
	return pair{certPEM(cert), keyPEM(t, key), cert.SerialNumber}
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p pair) writeTo(t *testing.T, dir string) {
	t.Helper()
	write(t, dir, "tls.crt", p.cert)
	write(t, dir, "tls.key", p.key)
}

// startFiles runs a source that looks more often than a real one.
func startFiles(t *testing.T, dir string, names ...string) *FileSource {
	t.Helper()
	s, err := Files(FilesOptions{Dir: dir, Names: names, Logger: testr.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	s.await, s.reread = 10*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		says(t, <-done)
	})
	return s
}

func TestFilesReadySaysWhatIsWrong(t *testing.T) {
	now := time.Now()
	ca := newIssuer(t, "ca")
	good, other := newPair(t, ca, now), newPair(t, ca, now)
	late, early := newPair(t, ca, now.Add(-2*time.Hour)), newPair(t, ca, now.Add(2*time.Hour))
	for name, c := range map[string]struct {
		cert, key []byte
		names     []string
		want      []string
	}{
		"good":          {good.cert, good.key, []string{"localhost"}, nil},
		"no files":      {nil, nil, nil, []string{"certificate file ", "tls.crt missing"}},
		"no key":        {good.cert, nil, nil, []string{"certificate file ", "tls.key missing"}},
		"not PEM":       {[]byte("hello"), good.key, nil, []string{"cannot be used as a pair", "failed to find any PEM data"}},
		"another's key": {good.cert, other.key, nil, []string{"cannot be used as a pair", "does not match public key"}},
		"expired":       {late.cert, late.key, nil, []string{"tls.crt: certificate expired at " + stamp(now.Add(-time.Hour)) + ": renew it"}},
		"not yet valid": {early.cert, early.key, nil, []string{"tls.crt: certificate is not valid before " + stamp(now.Add(2*time.Hour)) + ": wait"}},
		"not for a name asked for": {good.cert, good.key, []string{"localhost", "c.example"}, []string{
			"tls.crt: certificate is for names localhost, not for c.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.cert != nil {
				write(t, dir, "tls.crt", c.cert)
			}
			if c.key != nil {
				write(t, dir, "tls.key", c.key)
			}
			s := startFiles(t, dir, c.names...)
			if c.want == nil {
				eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
				return
			}
			time.Sleep(100 * time.Millisecond)
			says(t, s.Ready(nil), c.want...)
		})
	}
}

func TestFilesRecoverWhenTheyAppear(t *testing.T) {
	ca := newIssuer(t, "ca")
	p := newPair(t, ca, time.Now())
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	s := startFiles(t, dir, "localhost")
	addr := listen(t, s)

	says(t, s.Ready(nil), "tls.crt missing")
	if _, err := shake(addr, "localhost", ca.pool()); err == nil {
		t.Fatal("a handshake succeeded without a certificate")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "tls.crt", p.cert)
	time.Sleep(50 * time.Millisecond)
	says(t, s.Ready(nil), "tls.key missing")
	write(t, dir, "tls.key", p.key)

	eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
	cert, err := shake(addr, "localhost", ca.pool())
	says(t, err)
	if cert == nil || cert.SerialNumber.Cmp(p.serial) != 0 {
		t.Errorf("served %v, want serial %v", cert, p.serial)
	}
}

func TestFilesRecoverFromAWrongPair(t *testing.T) {
	ca := newIssuer(t, "ca")
	p, other := newPair(t, ca, time.Now()), newPair(t, ca, time.Now())
	dir := t.TempDir()
	write(t, dir, "tls.crt", p.cert)
	write(t, dir, "tls.key", other.key)
	s := startFiles(t, dir)
	says(t, s.Ready(nil), "cannot be used as a pair")
	write(t, dir, "tls.key", p.key)
	eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
}

// replacements are the ways in which certificate files change.
func replacements() map[string]func(t *testing.T, dir string, p pair) {
	return map[string]func(*testing.T, string, pair){
		"written in place, one after the other": func(t *testing.T, dir string, p pair) { p.writeTo(t, dir) },
		"renamed over": func(t *testing.T, dir string, p pair) {
			next := t.TempDir()
			p.writeTo(t, next)
			for _, f := range []string{"tls.key", "tls.crt"} {
				if err := os.Rename(filepath.Join(next, f), filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"removed and written again": func(t *testing.T, dir string, p pair) {
			for _, f := range []string{"tls.crt", "tls.key"} {
				if err := os.Remove(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(100 * time.Millisecond)
			p.writeTo(t, dir)
		},
		"by the kubelet's symbolic links": func(t *testing.T, dir string, p pair) { project(t, dir, p) },
	}
}

// project writes as the kubelet does: the files link through ..data, which is
// replaced in one step.
func project(t *testing.T, dir string, p pair) {
	t.Helper()
	version, err := os.MkdirTemp(dir, "..v")
	if err != nil {
		t.Fatal(err)
	}
	p.writeTo(t, version)
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	link := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(version), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"tls.crt", "tls.key"} {
		_ = os.Remove(filepath.Join(dir, f))
		if err := os.Symlink(filepath.Join("..data", f), filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	if old != "" {
		_ = os.RemoveAll(filepath.Join(dir, old))
	}
}

func TestFilesRotateUnderConnections(t *testing.T) {
	for name, replace := range replacements() {
		t.Run(name, func(t *testing.T) {
			ca := newIssuer(t, "ca")
			dir := t.TempDir()
			first := newPair(t, ca, time.Now())
			if name == "by the kubelet's symbolic links" {
				project(t, dir, first)
			} else {
				first.writeTo(t, dir)
			}
			s := startFiles(t, dir, "localhost")
			addr := listen(t, s)
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
			kept, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool(), ServerName: "localhost"})
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()

			calls := hammer(t, addr, s, ca.pool())
			for range 5 {
				next := newPair(t, ca, time.Now())
				replace(t, dir, next)
				eventually(t, "the new certificate is served", func() bool {
					cert, err := shake(addr, "localhost", ca.pool())
					return err == nil && cert.SerialNumber.Cmp(next.serial) == 0
				})
				time.Sleep(100 * time.Millisecond)
			}
			t.Logf("%d handshakes over 5 rotations", calls())
			says(t, ping(kept))
		})
	}
}

// hammer makes handshakes without pause until the returned function is called,
// which returns their number; a failed one, or a source which is not ready,
// fails the test.
func hammer(t *testing.T, addr string, s *FileSource, roots *x509.CertPool) func() int64 {
	var calls atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if _, err := shake(addr, "localhost", roots); err != nil {
					t.Errorf("handshake: %v", err)
				}
				if err := s.Ready(nil); err != nil {
					t.Errorf("not ready under rotation: %v", err)
				}
			}
		})
	}
	return func() int64 {
		close(stop)
		running.Wait()
		return calls.Load()
	}
}

func TestFilesThatGoBadLeaveTheLastGoodPair(t *testing.T) {
	ca := newIssuer(t, "ca")
	p := newPair(t, ca, time.Now())
	dir := t.TempDir()
	p.writeTo(t, dir)
	s := startFiles(t, dir, "localhost")
	addr := listen(t, s)
	eventually(t, "ready", func() bool { return s.Ready(nil) == nil })

	write(t, dir, "tls.crt", []byte("half a fi"))
	time.Sleep(200 * time.Millisecond)
	says(t, s.Ready(nil))
	_, err := shake(addr, "localhost", ca.pool())
	says(t, err)
}

func TestFilesExpireInUse(t *testing.T) {
	ca := newIssuer(t, "ca")
	dir := t.TempDir()
	newPair(t, ca, time.Now().Add(-time.Hour).Add(2*time.Second)).writeTo(t, dir)
	s := startFiles(t, dir)
	eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { return s.Ready(nil) != nil })
	says(t, s.Ready(nil), "tls.crt: certificate expired at ", "and it cannot be replaced: certificate file ", "tls.key missing")
	newPair(t, ca, time.Now()).writeTo(t, dir)
	eventually(t, "ready again", func() bool { return s.Ready(nil) == nil })
}

// startTrusted runs a source whose webhook configuration the test changes.
func startTrusted(t *testing.T, dir string, settle time.Duration) *FileSource {
	t.Helper()
	s, err := Files(FilesOptions{
		Dir: dir, Logger: testr.New(t), Settle: settle,
		RESTConfig: &rest.Config{Host: "https://nobody.invalid"}, WebhookConfiguration: "gate",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.trust.synced = func() bool { return true }
	s.await, s.reread = 10*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.read(ctx) })
	running.Go(func() { s.letPass(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return s
}

func (s *FileSource) bundle(first bool, cas ...issuer) {
	var pem []byte
	for _, ca := range cas {
		pem = append(pem, ca.pem()...)
	}
	s.trust.setConfiguration(configuration("", pem), first)
}

func (s *FileSource) serves(p pair) bool {
	cert, err := s.GetCertificate(nil)
	return err == nil && cert.Leaf.SerialNumber.Cmp(p.serial) == 0
}

func TestFilesWaitForTheCABundle(t *testing.T) {
	const settle, moment = 300 * time.Millisecond, 150 * time.Millisecond
	a, b := newIssuer(t, "a"), newIssuer(t, "b")
	for name, run := range map[string]func(t *testing.T, dir string, s *FileSource){
		"a new CA waits for the caBundle, and settles": func(t *testing.T, dir string, s *FileSource) {
			old, next := newPair(t, a, time.Now()), newPair(t, b, time.Now())
			s.bundle(true, a)
			project(t, dir, old)
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
			project(t, dir, next)
			time.Sleep(settle + moment)
			if !s.serves(old) || s.Ready(nil) != nil {
				t.Errorf("the old pair does not serve on: %v", s.Ready(nil))
			}
			began := time.Now()
			s.bundle(false, a, b)
			eventually(t, "the new pair", func() bool { return s.serves(next) })
			if took := time.Since(began); took < settle {
				t.Errorf("served %s after the caBundle changed, before it settled", took)
			}
			says(t, s.Ready(nil))
		},
		"a caBundle that came first lets the pair pass": func(t *testing.T, dir string, s *FileSource) {
			old, next := newPair(t, a, time.Now()), newPair(t, b, time.Now().Add(-time.Minute))
			s.bundle(true, a)
			project(t, dir, old)
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
			s.bundle(false, a, b)
			time.Sleep(settle)
			project(t, dir, next)
			eventually(t, "the new pair", func() bool { return s.serves(next) })
		},
		"a pair that is replaced while it waits is never served": func(t *testing.T, dir string, s *FileSource) {
			first, wrong, good := newPair(t, a, time.Now()), newPair(t, b, time.Now()), newPair(t, a, time.Now())
			s.bundle(true, a)
			project(t, dir, first)
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
			project(t, dir, wrong)
			time.Sleep(moment)
			project(t, dir, good)
			eventually(t, "the good pair", func() bool {
				if s.serves(wrong) {
					t.Error("the untrusted pair was served")
				}
				return s.serves(good)
			})
		},
		"the first pair of all is shown, but not ready, until it is trusted": func(t *testing.T, dir string, s *FileSource) {
			p := newPair(t, a, time.Now())
			project(t, dir, p)
			eventually(t, "the pair", func() bool { return s.serves(p) })
			says(t, s.Ready(nil), "tls.crt: ValidatingWebhookConfiguration gate does not exist")
			s.bundle(true, b)
			says(t, s.Ready(nil), "tls.crt: caBundle of webhook first.example", "does not contain the CA that issued the certificate (CN=a)")
			s.bundle(false, b, a)
			time.Sleep(moment)
			says(t, s.Ready(nil), "tls.crt: certificate or caBundle are new: waiting until ")
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
		},
		"an old pair that expired makes way for one that is not trusted": func(t *testing.T, dir string, s *FileSource) {
			old, next := newPair(t, a, time.Now().Add(2*time.Second-time.Hour)), newPair(t, b, time.Now())
			s.bundle(true, a)
			project(t, dir, old)
			eventually(t, "the old pair", func() bool { return s.passed.Load() != nil })
			project(t, dir, next)
			eventually(t, "the new pair", func() bool { return s.serves(next) })
			says(t, s.Ready(nil), "does not contain the CA that issued the certificate (CN=b)")
		},
		"a caBundle that lost our CA is said": func(t *testing.T, dir string, s *FileSource) {
			s.bundle(true, a)
			project(t, dir, newPair(t, a, time.Now()))
			eventually(t, "ready", func() bool { return s.Ready(nil) == nil })
			s.bundle(false, b)
			says(t, s.Ready(nil), "tls.crt: caBundle of webhook first.example")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			run(t, dir, startTrusted(t, dir, settle))
		})
	}
}

func TestFilesNeedAConfigurationsName(t *testing.T) {
	_, err := Files(FilesOptions{RESTConfig: &rest.Config{}})
	says(t, err, "prepare certificate files: no name of a ValidatingWebhookConfiguration")
}
