package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestCommitDate(t *testing.T) {
	for name, c := range map[string]struct{ epoch, want string }{
		"a commit's time, in UTC":           {"1700000000", "2023-11-14T22:13:20Z"},
		"unknown":                           {"", ""},
		"not a number, so not a time":       {"yesterday", ""},
		"0, which a build without git says": {"0", ""},
	} {
		if got := commitDate(c.epoch); got != c.want {
			t.Errorf("%s: commitDate(%q) = %q, want %q", name, c.epoch, got, c.want)
		}
	}
}

// Without a system's roots, as in the image, Mozilla's serve. Roots are read once in a process, so it is another.
func TestCARootsAreEmbedded(t *testing.T) {
	if os.Getenv("EVICTGATE_TEST_ROOTS") == "" {
		again := exec.Command(os.Args[0], "-test.run=^TestCARootsAreEmbedded$", "-test.v")
		again.Env = []string{"EVICTGATE_TEST_ROOTS=1", "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere"}
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	known := 0
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := certificate.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			known++
		}
	}
	if known < 50 {
		t.Errorf("only %d of Mozilla's roots are trusted", known)
	}
}
