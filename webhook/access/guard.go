package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Guard lets only those call next whose bearer token may do the action.
type Guard struct {
	Checker Checker
	Action  Action
	Next    http.Handler
	// Timeout bounds how long it may take to find out.
	Timeout time.Duration
	Log     *slog.Logger
}

func (g Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := g.allow(r)
	if err == nil {
		g.Next.ServeHTTP(w, r)
		return
	}
	code, text := g.refusal(user, err)
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="evictgate"`)
	}
	if errors.Is(err, ErrBusy) {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, text, code)
}

func (g Guard) allow(r *http.Request) (string, error) {
	token := Bearer(r)
	if token == "" {
		return "", ErrToken
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.Timeout)
	defer cancel()
	return g.Checker.Allow(ctx, token, g.Action)
}

func (g Guard) refusal(user string, err error) (code int, text string) {
	a := g.Action
	switch {
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden, fmt.Sprintf("evictgate: %s may not %s the nonResourceURL %s: bind a ClusterRole that allows it", user, a.Verb, a.Path)
	case errors.Is(err, ErrToken):
		return http.StatusUnauthorized, fmt.Sprintf("evictgate: %s needs a valid bearer token in the header Authorization, whose user may %s this nonResourceURL", a.Path, a.Verb)
	case errors.Is(err, ErrBusy): // no line in the log: whoever reaches the port can cause any number
		return http.StatusServiceUnavailable, "evictgate: too many tokens are being checked. Try again."
	}
	g.Log.Error("a token could not be checked", "path", a.Path, "err", err)
	return http.StatusServiceUnavailable, "evictgate: the token could not be checked; the log says why. Try again."
}
