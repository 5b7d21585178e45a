package bundle

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/evictgate/evictgate/policies"
)

// hub is a real registry with a door in front of it.
type hub struct {
	registry http.Handler
	web      *httptest.Server

	mu        sync.Mutex
	user      string // demanded by the token server, as user:password; empty: no login
	asked     map[string]int
	elsewhere string // where blobs are redirected to; empty: nowhere
}

func newHub(t *testing.T, secure bool) *hub {
	t.Helper()
	h := &hub{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0))), asked: map[string]int{}}
	h.web = httptest.NewUnstartedServer(h)
	h.web.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		h.web.StartTLS()
	} else {
		h.web.Start()
	}
	t.Cleanup(h.web.Close)
	return h
}

func (h *hub) set(change func(*hub)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// seen is how often a kind of request came: HEAD, manifests or blobs.
func (h *hub) seen(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[kind]
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	user, elsewhere := h.user, h.elsewhere
	for _, kind := range []string{"manifests", "blobs"} {
		if strings.Contains(r.URL.Path, "/"+kind+"/") {
			h.asked[r.Method+" "+kind]++
		}
	}
	h.mu.Unlock()
	switch {
	case r.URL.Path == "/token":
		h.login(w, r, user)
	case user != "" && r.Header.Get("Authorization") != "Bearer granted":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="hub",scope="repository:org/evict:pull"`, h.web.URL+"/token"))
		w.WriteHeader(http.StatusUnauthorized)
	case elsewhere != "" && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/"):
		http.Redirect(w, r, elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
	default:
		h.registry.ServeHTTP(w, r)
	}
}

func (h *hub) login(w http.ResponseWriter, r *http.Request, user string) {
	if r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": "granted"})
}

// push pushes a bundle as `oras push` does, and tags it.
func (h *hub) push(t *testing.T, tag string, body []byte) {
	t.Helper()
	ctx := context.Background()
	image := memory.New()
	layer, err := oras.PushBytes(ctx, image, ocispec.MediaTypeImageLayerGzip, body)
	must(t, err)
	manifest, err := oras.PackManifest(ctx, image, oras.PackManifestVersion1_1, "application/vnd.oci.image.config.v1+json",
		oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	must(t, err)
	must(t, image.Tag(ctx, manifest, tag))
	web := httptest.NewServer(h.registry)
	defer web.Close()
	repository, err := remote.NewRepository(strings.TrimPrefix(web.URL, "http://") + "/org/evict")
	must(t, err)
	repository.PlainHTTP = true
	_, err = oras.Copy(ctx, image, tag, repository, tag, oras.DefaultCopyOptions)
	must(t, err)
}

// url is that of a tag.
func (h *hub) url(tag string) string {
	scheme := "oci://"
	if h.web.TLS == nil {
		scheme = "oci+http://"
	}
	_, host, _ := strings.Cut(h.web.URL, "://")
	return scheme + host + "/org/evict:" + tag
}

func TestATagIsFollowed(t *testing.T) {
	k := newECDSA(t)
	h := newHub(t, true)
	h.push(t, "v1", tarball(t, k.signed(t, map[string]string{".manifest": manifest("one"), "a.rego": regoA, "x/bind.yaml": yamlC})))
	cache := t.TempDir()
	source, told := follow(t, Options{URL: h.url("v1"), PublicKey: k.file, CAFile: caOf(t, h.web), Cache: cache})
	expect(t, told, "one: a.rego x/bind.yaml")
	h.push(t, "other", tarball(t, k.signed(t, map[string]string{"b.rego": regoB})))
	silence(t, told)

	h.push(t, "v1", tarball(t, k.signed(t, map[string]string{".manifest": manifest("two"), "b.rego": regoB})))
	expect(t, told, "two: b.rego")
	silence(t, told)

	h.push(t, "v1", tarball(t, newECDSA(t).signed(t, map[string]string{".manifest": manifest("forged"), "a.rego": regoA})))
	expectFailure(t, source, told, "failed to verify JWT signature")
	h.push(t, "v1", tarball(t, map[string]string{".manifest": manifest("unsigned"), "a.rego": regoA}))
	expectFailure(t, source, told, "bundle missing .signatures.json file")
	silence(t, told)
	h.push(t, "v1", tarball(t, k.signed(t, map[string]string{".manifest": manifest("three"), "a.rego": regoA})))
	expect(t, told, "three: a.rego")

	h.web.Close()
	expectFailure(t, source, told, "connection refused")
}

// While nothing changes only the tag is looked up; what is unpacked is that of one bundle.
func TestARegistryIsAskedForNoMoreThanNeeded(t *testing.T) {
	h := newHub(t, false)
	cache := t.TempDir()
	var told <-chan string
	t.Run("while it runs", func(t *testing.T) {
		_, told = follow(t, Options{URL: h.url("v1"), Cache: cache})
		for i := range 5 {
			h.push(t, "v1", tarball(t, map[string]string{".manifest": manifest(fmt.Sprint(i)), "a.rego": regoA}))
			for got := range told {
				if got == fmt.Sprint(i, ": a.rego") {
					break
				}
			}
		}
		silence(t, told)
		heads, blobs := h.seen("HEAD manifests"), h.seen("GET blobs")
		silence(t, told)
		if more := h.seen("HEAD manifests") - heads; more < 2 {
			t.Errorf("%d looks at the tag, want some", more)
		}
		if more := h.seen("GET blobs") - blobs; more != 0 {
			t.Errorf("%d blobs were pulled though nothing changed", more)
		}
		// An image is a manifest, a configuration and the bundle.
		unpacked, err := filepath.Glob(filepath.Join(cache, "*.oci", "blobs", "sha256", "*"))
		must(t, err)
		if len(unpacked) != 3 {
			t.Errorf("%d blobs lie in the cache, want 3: %v", len(unpacked), unpacked)
		}
	})
	left, err := os.ReadDir(cache)
	must(t, err)
	if len(left) != 1 || !strings.HasSuffix(left[0].Name(), ".tar.gz") {
		t.Errorf("left in the cache: %v, want the bundle only", left)
	}
}

func TestNothingIsLeftInTheTemporaryDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	h := newHub(t, false)
	h.push(t, "v1", tarball(t, map[string]string{"a.rego": regoA}))
	t.Run("follow", func(t *testing.T) {
		_, told := follow(t, Options{URL: h.url("v1")})
		expect(t, told, ": a.rego")
	})
	left, err := filepath.Glob(filepath.Join(dir, "evictgate-*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestARegistryWithALogin(t *testing.T) {
	h := newHub(t, true)
	h.push(t, "v1", tarball(t, map[string]string{".manifest": manifest("one"), "a.rego": regoA}))
	h.set(func(h *hub) { h.user = "robot:first" })
	file := writeTemp(t, "token", []byte("robot:first\n"))
	source, told := follow(t, Options{URL: h.url("v1"), CAFile: caOf(t, h.web), TokenFile: file})
	expect(t, told, "one: a.rego")
	h.set(func(h *hub) { h.user = "robot:second" })
	expectFailure(t, source, told, "401")
	must(t, os.WriteFile(file, []byte("robot:second\n"), 0o600))
	expect(t, told, "one: a.rego")
}

func TestALoginDoesNotFollowARedirectToAStoreOfBlobs(t *testing.T) {
	h := newHub(t, true)
	h.push(t, "v1", tarball(t, map[string]string{"a.rego": regoA}))
	seen := make(chan string, 100)
	store := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		h.registry.ServeHTTP(w, r)
	}))
	store.StartTLS() // with the same certificate
	t.Cleanup(store.Close)
	// By another name, so that net/http takes it for another server, too.
	h.set(func(h *hub) {
		h.user, h.elsewhere = "robot:secret", strings.Replace(store.URL, "127.0.0.1", "example.com", 1)
	})
	source, err := New(Options{URL: h.url("v1"), CAFile: caOf(t, h.web), MinPoll: poll, MaxPoll: poll, TokenFile: writeTemp(t, "token", []byte("robot:secret"))}, nil)
	must(t, err)
	dial := source.access.base.DialContext
	source.access.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, network, strings.Replace(address, "example.com", "127.0.0.1", 1))
	}
	told := make(chan string, 10)
	source.onUpdate = func(files []policies.File, err error) bool {
		told <- fmt.Sprint(len(files), " ", err)
		return true
	}
	run(t, source)
	expect(t, told, "1 <nil>")
	for range 2 { // the configuration and the bundle
		if got := <-seen; got != "" {
			t.Errorf("the store of blobs saw %q", got)
		}
	}
}

func TestPullsThatFail(t *testing.T) {
	good := tarball(t, map[string]string{".manifest": manifest("good"), "a.rego": regoA})
	for name, tt := range map[string]struct {
		bad  func(*testing.T, *hub)
		want string
	}{
		"no tarball": {func(t *testing.T, h *hub) { h.push(t, "v1", []byte("text")) }, "unexpected EOF"},
		"truncated":  {func(t *testing.T, h *hub) { h.push(t, "v1", good[:len(good)/2]) }, "unexpected EOF"},
		"no policy":  {func(t *testing.T, h *hub) { h.push(t, "v1", tarball(t, map[string]string{"x.txt": "x"})) }, "no policy in the bundle"},
		"too large": {func(t *testing.T, h *hub) {
			h.push(t, "v1", tarball(t, map[string]string{"a.rego": regoA, "zeros": strings.Repeat("\x00", maxBytes+1)}))
		}, "has more than 33554432 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, false)
			h.push(t, "v1", good)
			source, told := follow(t, Options{URL: h.url("v1")})
			expect(t, told, "good: a.rego")
			tt.bad(t, h)
			expectFailure(t, source, told, tt.want)
			silence(t, told)
			h.push(t, "v1", good)
			expect(t, told, "good: a.rego")
		})
	}
	t.Run("no such tag", func(t *testing.T) {
		h := newHub(t, false)
		source, told := follow(t, Options{URL: h.url("v9")})
		expectFailure(t, source, told, "404")
	})
	t.Run("blobs that are not what their digest says", func(t *testing.T) {
		h := newHub(t, false)
		h.push(t, "v1", good)
		forger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			h.registry.ServeHTTP(answer, r)
			body := answer.Body.Bytes()
			body[len(body)-1]++
			_, _ = w.Write(body)
		}))
		t.Cleanup(forger.Close)
		h.set(func(h *hub) { h.elsewhere = forger.URL })
		source, told := follow(t, Options{URL: h.url("v1")})
		expectFailure(t, source, told, "mismatch")
	})
}
