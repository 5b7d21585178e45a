package certs

import (
	"context"
	"crypto/x509"
	"net"
	"testing"
)

func TestEphemeralIsTrustedByItsOwnCAOnly(t *testing.T) {
	s, err := Ephemeral([]string{"localhost", "evictgate.example"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	other, err := Ephemeral([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	says(t, s.Ready(nil))
	addr := listen(t, s)
	for name, c := range map[string]struct {
		server string
		ca     []byte
		want   []string
	}{
		"by name":            {"localhost", s.CAPEM(), nil},
		"by its second name": {"evictgate.example", s.CAPEM(), nil},
		"by address":         {"127.0.0.1", s.CAPEM(), nil},
		"by another name":    {"other.example", s.CAPEM(), []string{"not other.example"}},
		"by another's CA":    {"localhost", other.CAPEM(), []string{"unknown authority"}},
	} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(c.ca) {
				t.Fatal("CAPEM holds no certificate")
			}
			_, err := shake(addr, c.server, roots)
			says(t, err, c.want...)
		})
	}
}

func TestEphemeralStartReturnsWithItsContext(t *testing.T) {
	s, err := Ephemeral(nil, []net.IP{net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	says(t, s.Start(ctx))
}

func TestEphemeralWantsAName(t *testing.T) {
	_, err := Ephemeral(nil, nil)
	says(t, err, "no DNS name and no IP address")
}
