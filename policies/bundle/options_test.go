package bundle

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLocations(t *testing.T) {
	for raw, want := range map[string]location{
		"https://host/dir/b.tar.gz":            {name: "https://host/dir/b.tar.gz", server: "https://host", path: "/dir/b.tar.gz", secure: true},
		"HTTP://host:8080/b%20c.tgz?sig=a%2Fb": {name: "http://host:8080/b%20c.tgz", server: "http://host:8080", path: "/b%20c.tgz?sig=a%2Fb"},
		"oci://host:5000/org/evict:v1":         {name: "oci://host:5000/org/evict:v1", server: "https://host:5000", path: "host:5000/org/evict:v1", secure: true, oci: true},
		"oci+http://127.0.0.1:5000/evict:v1":   {name: "oci+http://127.0.0.1:5000/evict:v1", server: "http://127.0.0.1:5000", path: "127.0.0.1:5000/evict:v1", oci: true},
		"oci://docker.io/org/evict:v1":         {name: "oci://docker.io/org/evict:v1", server: "https://registry-1.docker.io", path: "docker.io/org/evict:v1", secure: true, oci: true},
	} {
		t.Run(raw, func(t *testing.T) {
			got, err := parseLocation(raw)
			must(t, err)
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// pemFile writes PEM blocks, given as pairs of a type and its bytes.
func pemFile(t *testing.T, blocks ...pem.Block) string {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&b)...)
	}
	return writeTemp(t, "some.pem", text)
}

func publicPEM(t *testing.T, public any) pem.Block {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return pem.Block{Type: "PUBLIC KEY", Bytes: der}
}

func TestOptionsThatCannotWork(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(ec)
	must(t, err)
	good := publicPEM(t, ec.Public())
	file := writeTemp(t, "file", []byte("text\n"))
	const url = "https://host/b.tar.gz"
	for name, tt := range map[string]struct {
		o    Options
		want string
	}{
		"no URL":                             {Options{}, "expected https://host/path/bundle.tar.gz or oci://registry/repository:tag"},
		"no URL at all":                      {Options{URL: "https://user:secret@host:port/"}, `invalid port ":port" after host`},
		"another scheme":                     {Options{URL: "s3://bucket/b.tar.gz"}, `s3://bucket/b.tar.gz: invalid scheme "s3": expected https, http, oci or oci+http`},
		"a server and no bundle":             {Options{URL: "https://host/"}, "https://host/: the URL names a server and no bundle"},
		"a password":                         {Options{URL: "https://user:secret@host/b.tar.gz"}, "https://host/b.tar.gz: a password in a URL"},
		"a fragment":                         {Options{URL: url + "#x"}, "has no #fragment"},
		"an image without a tag":             {Options{URL: "oci://host/org/evict"}, "oci://host/org/evict: name a tag or digest"},
		"an image with a bad tag":            {Options{URL: "oci://host/evict:!"}, "invalid"},
		"an image with a query":              {Options{URL: "oci://host/evict:v1?x=1"}, "has no ?query"},
		"a registry and no image":            {Options{URL: "oci://host"}, "missing registry or repository"},
		"polls that are negative":            {Options{URL: url, MinPoll: -1}, "must not be negative"},
		"polls in the wrong order":           {Options{URL: url, MinPoll: 2 * time.Minute, MaxPoll: time.Minute}, "the longest poll interval 1m0s is less than the shortest, 2m0s"},
		"no key file":                        {Options{URL: url, PublicKey: "/nowhere/key.pem"}, url + ": read the public key: open /nowhere/key.pem: no such file or directory"},
		"no PEM":                             {Options{URL: url, PublicKey: file}, "no PEM block in it"},
		"a private key":                      {Options{URL: url, PublicKey: pemFile(t, pem.Block{Type: "PRIVATE KEY", Bytes: private})}, "it holds a PRIVATE KEY; expected a PUBLIC KEY or a CERTIFICATE"},
		"two keys":                           {Options{URL: url, PublicKey: pemFile(t, good, good)}, "more than one PEM block"},
		"a broken key":                       {Options{URL: url, PublicKey: pemFile(t, pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})}, "asn1"},
		"a broken certificate":               {Options{URL: url, PublicKey: pemFile(t, pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}, "x509"},
		"an ed25519 key":                     {Options{URL: url, PublicKey: pemFile(t, publicPEM(t, ed))}, "OPA verifies RSA and ECDSA signatures, this is a ed25519.PublicKey"},
		"a curve without algorithm":          {Options{URL: url, PublicKey: pemFile(t, publicPEM(t, small.Public()))}, "its curve P-224 has no algorithm"},
		"the algorithm of a secret":          {Options{URL: url, PublicKey: pemFile(t, good), Algorithm: "HS256"}, "a key on P-256 verifies ES256, not HS256"},
		"the algorithm of a secret with RSA": {Options{URL: url, PublicKey: pemFile(t, publicPEM(t, rsaKey.Public())), Algorithm: "HS256"}, "an RSA key does not verify HS256"},
		"an algorithm without a key":         {Options{URL: url, Algorithm: "ES256"}, "needs a public key"},
		"a scope without a key":              {Options{URL: url, Scope: "write"}, "needs a public key"},
		"no token file":                      {Options{URL: url, TokenFile: "/nowhere/token"}, "read the token: open /nowhere/token: no such file or directory"},
		"an empty token":                     {Options{URL: url, TokenFile: writeTemp(t, "token", []byte("\n"))}, "must hold one line"},
		"two tokens":                         {Options{URL: url, TokenFile: writeTemp(t, "token", []byte("a\nb\n"))}, "must hold one line"},
		"no CA file":                         {Options{URL: url, CAFile: "/nowhere/ca.pem"}, "read the CA file"},
		"a CA file without one":              {Options{URL: url, CAFile: file}, "holds no PEM certificate"},
		"a CA without TLS":                   {Options{URL: "http://host/b.tar.gz", CAFile: file}, "this URL is not encrypted"},
		"a cache that is a file":             {Options{URL: url, Cache: file}, "make the cache"},
		"a cache below a file":               {Options{URL: url, Cache: filepath.Join(file, "x")}, "make the cache"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tt.o, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAnOCIBundleNeedsADirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", "/nowhere")
	_, err := New(Options{URL: "oci://host/evict:v1"}, nil)
	if err == nil || !strings.Contains(err.Error(), "give a cache directory or a writable /nowhere") {
		t.Errorf("error %v", err)
	}
	_, err = New(Options{URL: "oci://host/evict:v1", Cache: dir}, nil)
	must(t, err)
}

func TestAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	curve := func(c elliptic.Curve) any {
		private, err := ecdsa.GenerateKey(c, rand.Reader)
		must(t, err)
		return private.Public()
	}
	for name, tt := range map[string]struct {
		key         any
		asked, want string
	}{
		"RSA":           {rsaKey.Public(), "", "RS256"},
		"RSA, as asked": {rsaKey.Public(), "PS512", "PS512"},
		"P-256":         {curve(elliptic.P256()), "", "ES256"},
		"P-384":         {curve(elliptic.P384()), "ES384", "ES384"},
		"P-521":         {curve(elliptic.P521()), "", "ES512"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := algorithmFor(tt.key, tt.asked)
			must(t, err)
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestPolls(t *testing.T) {
	for name, tt := range map[string]struct{ give, want [2]time.Duration }{
		"none":         {[2]time.Duration{}, [2]time.Duration{time.Minute, 2 * time.Minute}},
		"the shortest": {[2]time.Duration{time.Second}, [2]time.Duration{time.Second, 2 * time.Second}},
		"the longest":  {[2]time.Duration{0, 10 * time.Second}, [2]time.Duration{5 * time.Second, 10 * time.Second}},
		"both":         {[2]time.Duration{time.Second, time.Second}, [2]time.Duration{time.Second, time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{MinPoll: tt.give[0], MaxPoll: tt.give[1]}
			must(t, o.setPolls())
			if diff := cmp.Diff(tt.want, [2]time.Duration{o.MinPoll, o.MaxPoll}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	s := &Source{options: Options{MinPoll: 10 * time.Second, MaxPoll: 20 * time.Second}}
	for range 1000 {
		if d := s.pause(0); d < 10*time.Second || d > 20*time.Second {
			t.Fatalf("a pause of %s between two looks", d)
		}
		// A fifth of the pause after a failure is up to chance.
		if d := s.pause(1); d < 1280*time.Millisecond || d > 1920*time.Millisecond {
			t.Fatalf("a pause of %s after one failure", d)
		}
		if d := s.pause(100); d < 16*time.Second || d > 24*time.Second {
			t.Fatalf("a pause of %s after many failures", d)
		}
	}
}
