package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issuer is a CA that issues certificates into a directory, as cert-manager does through a mounted Secret.
type issuer struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int
}

func newIssuer(t *testing.T, dir string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := &issuer{dir: dir, key: key}
	template := i.template("faults")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	i.cert, err = x509.ParseCertificate(der)
	must(t, err)
	must(t, os.MkdirAll(dir, 0o700))
	return i
}

func (i *issuer) template(name string) *x509.Certificate {
	i.made++
	return &x509.Certificate{
		SerialNumber: big.NewInt(int64(i.made)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
}

func (i *issuer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

// issue writes a new pair and has the directory's links point at it, in one step as the kubelet does.
func (i *issuer) issue(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := i.template("evictgate")
	template.DNSNames, template.ExtKeyUsage = []string{webhookName("")}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	data := fmt.Sprintf("..%d", i.made)
	must(t, os.Mkdir(filepath.Join(i.dir, data), 0o700))
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		must(t, os.WriteFile(filepath.Join(i.dir, data, name), pem.EncodeToMemory(block), 0o600))
		if _, err := os.Lstat(filepath.Join(i.dir, name)); err != nil {
			must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(i.dir, name)))
		}
	}
	old, _ := os.Readlink(filepath.Join(i.dir, "..data"))
	must(t, os.Symlink(data, filepath.Join(i.dir, "..next")))
	must(t, os.Rename(filepath.Join(i.dir, "..next"), filepath.Join(i.dir, "..data")))
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(i.dir, old)))
	}
}

// reissue writes new pairs, each when all replicas serve the one before.
func reissue(st *stage) {
	for range 3 {
		st.renewed(func() { st.issuer.issue(st.T) })
		time.Sleep(time.Second)
	}
}
