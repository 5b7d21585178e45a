package access_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evictgate/evictgate/webhook/access"
)

var read = access.Action{Verb: "get", Path: "/metrics"}

// tokens are those of two users; the second may not read.
type tokens struct{ asked int }

func (k *tokens) Allow(_ context.Context, token string, a access.Action) (string, error) {
	k.asked++
	switch {
	case token == "good" && a == read:
		return "ana", nil
	case token == "good", token == "other":
		return "bert", fmt.Errorf("bert: %w", access.ErrForbidden)
	case token == "away":
		return "", errors.New("the API server is away")
	case token == "one too many":
		return "", access.ErrBusy
	}
	return "", access.ErrToken
}

func TestGuard(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		code   int
		text   string
	}{
		"a token that may":                 {"Bearer good", 200, "the metrics"},
		"the scheme in any case":           {"bearer good", 200, "the metrics"},
		"no token":                         {"", 401, "evictgate: /metrics needs a valid bearer token in the header Authorization, whose user may get this nonResourceURL"},
		"another scheme":                   {"Basic good", 401, "needs a valid bearer token"},
		"a wrong token":                    {"Bearer wrong", 401, "needs a valid bearer token"},
		"a token that may not":             {"Bearer other", 403, "evictgate: bert may not get the nonResourceURL /metrics: bind a ClusterRole that allows it"},
		"a token that cannot be looked at": {"Bearer away", 503, "evictgate: the token could not be checked; the log says why"},
		"one of very many tokens":          {"Bearer one too many", 503, "evictgate: too many tokens are being checked. Try again."},
	} {
		t.Run(name, func(t *testing.T) {
			guard := access.Guard{
				Checker: new(tokens), Action: read, Timeout: time.Second, Log: slog.New(slog.DiscardHandler),
				Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the metrics") }),
			}
			request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			request.Header.Set("Authorization", c.header)
			w := httptest.NewRecorder()
			guard.ServeHTTP(w, request)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.code, c.text)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (c.code == 401) {
				t.Errorf("header %q with %d", w.Header().Get("WWW-Authenticate"), c.code)
			}
			if (w.Header().Get("Retry-After") != "") != (name == "one of very many tokens") {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestCachedAsksAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner tokens
		checker := access.Cached(&inner, time.Now)
		ask := func(token string, a access.Action, asked int) {
			t.Helper()
			_, _ = checker.Allow(t.Context(), token, a)
			if inner.asked != asked {
				t.Errorf("asked %d times, want %d", inner.asked, asked)
			}
		}
		ask("good", read, 1)
		ask("good", read, 1)
		ask("good", access.Action{Verb: "post", Path: "/metrics"}, 2) // a right of its own
		ask("wrong", read, 3)
		ask("wrong", read, 3)
		time.Sleep(10 * time.Second)
		ask("good", read, 3)
		ask("wrong", read, 4)
		time.Sleep(time.Minute)
		ask("good", read, 5)
		ask("away", read, 6)
		ask("away", read, 7) // what could not be found out is not remembered
	})
}

// slow looks at made-up tokens until it is told to go on; the good one it knows at once.
type slow struct {
	tokens
	inside atomic.Int64
	goOn   chan struct{}
}

func (s *slow) Allow(ctx context.Context, token string, a access.Action) (string, error) {
	if token != "good" {
		s.inside.Add(1)
		<-s.goOn
		return "", access.ErrToken
	}
	return s.tokens.Allow(ctx, token, a)
}

func TestMadeUpTokensAreLookedAtAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &slow{goOn: make(chan struct{})}
		checker := access.Cached(inner, time.Now)
		good := func(asked int) {
			t.Helper()
			if user, err := checker.Allow(t.Context(), "good", read); user != "ana" || err != nil || inner.asked != asked {
				t.Errorf("the good token is of %q: %v; asked %d times, want %d", user, err, inner.asked, asked)
			}
		}
		good(1)
		answers := make(chan error, 100)
		for i := range 100 {
			go func() {
				_, err := checker.Allow(t.Context(), fmt.Sprint("made up ", i), read)
				answers <- err
			}()
		}
		synctest.Wait() // all but those inside are answered
		if inside, busy := inner.inside.Load(), len(answers); inside != 4 || busy != 96 {
			t.Fatalf("%d looked at beside each other, %d turned away", inside, busy)
		}
		for range 96 {
			if err := <-answers; !errors.Is(err, access.ErrBusy) {
				t.Errorf("answered %v", err)
			}
		}
		good(1)
		time.Sleep(2 * time.Minute) // long enough to ask about it again, though no slot is free
		good(2)
		close(inner.goOn)
		for range 4 {
			if err := <-answers; !errors.Is(err, access.ErrToken) {
				t.Errorf("answered %v", err)
			}
		}
		if _, err := checker.Allow(t.Context(), "one more", read); !errors.Is(err, access.ErrToken) {
			t.Errorf("then answered %v", err)
		}
	})
}

func TestMadeUpTokensDoNotDisplaceGoodOnes(t *testing.T) {
	var inner tokens
	checker := access.Cached(&inner, time.Now)
	_, _ = checker.Allow(t.Context(), "good", read)
	for i := range 3000 {
		_, _ = checker.Allow(t.Context(), fmt.Sprint("made up ", i), read)
	}
	if _, err := checker.Allow(t.Context(), "good", read); err != nil || inner.asked != 3001 {
		t.Errorf("%v after %d questions", err, inner.asked)
	}
}
