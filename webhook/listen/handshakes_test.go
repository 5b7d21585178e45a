package listen

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFailedHandshakesAreToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		failed := 0
		h := NewHandshakes(slog.New(slog.NewTextHandler(&out, nil)), func() { failed++ })
		for range 100 {
			fmt.Fprintln(h, "http: TLS handshake error from [::1]:4242: tls: client didn't provide a certificate")
		}
		time.Sleep(handshakeEvery)
		fmt.Fprintln(h, "http: TLS handshake error from 10.0.0.1:4242: remote error: tls: bad certificate")
		fmt.Fprintln(h, "http: TLS handshake error from 127.0.0.1:4242: EOF")
		fmt.Fprintln(h, "http: superfluous response.WriteHeader call")
		if failed != 101 {
			t.Errorf("%d failures counted, want 101", failed)
		}
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			_, said, _ := strings.Cut(line, "level=")
			got = append(got, said)
		}
		want := []string{
			`WARN msg="refused a connection: TLS handshake failed" from=[::1]:4242 why="tls: client didn't provide a certificate" unlogged=0`,
			`WARN msg="refused a connection: TLS handshake failed" from=10.0.0.1:4242 why="remote error: tls: bad certificate" unlogged=99`,
			`INFO msg="http: superfluous response.WriteHeader call"`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
