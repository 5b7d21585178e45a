package certs

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// validity says whether cert can be used at now. It does not say what time it
// is, so that what it says stays the same: it is logged when it changes, with
// the time.
func validity(cert *x509.Certificate, now time.Time) error {
	subject := "certificate"
	if cert.IsCA {
		subject += " of " + cert.Subject.CommonName
	}
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("%s expired at %s: renew it, or correct the clock", subject, stamp(cert.NotAfter))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%s is not valid before %s: wait, or correct the clock", subject, stamp(cert.NotBefore))
	}
	return nil
}

// covers says whether cert may serve under each of names, which are DNS names
// or IP addresses.
func covers(cert *x509.Certificate, names ...string) error {
	var missing []string
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("certificate is for %s, not for %s: issue it for every name the API server calls",
		namesOf(cert), strings.Join(missing, ", "))
}

func namesOf(cert *x509.Certificate) string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return "names " + strings.Join(names, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
