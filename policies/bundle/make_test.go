package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// key is a key pair that signs bundles.
type key struct {
	algorithm string
	private   string // PEM
	file      string // with the public half
}

func newKey(t testing.TB, algorithm string, private crypto.Signer) key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	must(t, err)
	return key{
		algorithm: algorithm,
		private:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		file:      writeTemp(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
}

func newECDSA(t testing.TB) key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return newKey(t, "ES256", private)
}

func writeTemp(t testing.TB, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(name, data, 0o600))
	return name
}

const (
	regoA = "package eviction.a\n\ndeny contains \"a\" if input.pod\n"
	regoB = "package eviction.b\n\ndelay contains \"b\" if input.pod\n"
	yamlC = "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata:\n  name: c\nspec:\n  library: do_not_disrupt\n"
)

// manifest is that of a bundle with a revision.
func manifest(revision string) string {
	return `{"revision": "` + revision + `", "roots": ["eviction"]}` + "\n"
}

// signature is .signatures.json over files, as `opa sign` makes it.
func (k key) signature(t testing.TB, files map[string]string) string {
	t.Helper()
	hasher, err := opabundle.NewSignatureHasher(opabundle.SHA256)
	must(t, err)
	var infos []opabundle.FileInfo
	for name, text := range files {
		var value any = []byte(text)
		if opabundle.IsStructuredDoc(name) {
			must(t, util.Unmarshal([]byte(text), &value))
		}
		sum, err := hasher.HashFile(value)
		must(t, err)
		infos = append(infos, opabundle.NewFile(name, hex.EncodeToString(sum), string(opabundle.SHA256)))
	}
	token, err := opabundle.GenerateSignedToken(infos, opabundle.NewSigningConfig(k.private, k.algorithm, ""), "")
	must(t, err)
	signatures, err := json.Marshal(opabundle.SignaturesConfig{Signatures: []string{token}})
	must(t, err)
	return string(signatures)
}

// signed adds the signature to files.
func (k key) signed(t testing.TB, files map[string]string) map[string]string {
	t.Helper()
	all := maps.Clone(files)
	all[".signatures.json"] = k.signature(t, files)
	return all
}

// tarball packs files, sorted by name.
func tarball(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}))
		_, err := archive.Write([]byte(files[name]))
		must(t, err)
	}
	must(t, archive.Close())
	must(t, zipped.Close())
	return packed.Bytes()
}
