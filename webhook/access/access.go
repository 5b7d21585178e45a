// Package access decides who may call what Evictgate serves beside the webhook, by bearer tokens: the review
// page and /metrics.
package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Action is what a request wants to do, as RBAC names it: a verb on a nonResourceURL.
type Action struct{ Verb, Path string }

var (
	// ErrToken says that a token is not valid.
	ErrToken = errors.New("the token is not valid")
	// ErrForbidden says that the token's user may not do this; the error that wraps it names them.
	ErrForbidden = errors.New("not allowed")
)

// Checker decides who may do what.
type Checker interface {
	// Allow returns the name of the token's user. Its error is ErrToken, ErrForbidden, or says why it
	// could not be found out.
	Allow(ctx context.Context, token string, a Action) (user string, err error)
}

// Bearer is the token that a request carries in its header; empty without one.
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Cached remembers for a short time what a checker said, so that a page does not ask the API server for each
// request. Who loses the right keeps it for that time at most.
func Cached(checker Checker, now func() time.Time) Checker {
	return &cached{Checker: checker, now: now, known: map[[sha256.Size]byte]remembered{}}
}

const (
	allowedFor = time.Minute
	refusedFor = 5 * time.Second
	maxKnown   = 1000
)

type cached struct {
	Checker
	now   func() time.Time
	mu    sync.Mutex
	known map[[sha256.Size]byte]remembered
}

type remembered struct {
	user  string
	err   error
	until time.Time
}

// Allow answers from memory where it can.
func (c *cached) Allow(ctx context.Context, token string, a Action) (string, error) {
	key := sha256.Sum256([]byte(a.Verb + " " + a.Path + " " + token))
	now := c.now()
	c.mu.Lock()
	r, ok := c.known[key]
	c.mu.Unlock()
	if ok && now.Before(r.until) {
		return r.user, r.err
	}
	user, err := c.Checker.Allow(ctx, token, a)
	if err != nil && !errors.Is(err, ErrToken) && !errors.Is(err, ErrForbidden) {
		return user, err
	}
	r = remembered{user: user, err: err, until: now.Add(allowedFor)}
	if err != nil {
		r.until = now.Add(refusedFor)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[key] = r
	return user, err
}
