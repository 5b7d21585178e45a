// Package access decides who may call what Evictgate serves beside the webhook, by bearer tokens: the review
// page and /metrics.
package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
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
	// ErrBusy says that a token was not looked at, since too many others are.
	ErrBusy = errors.New("too many tokens are being checked")
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
// request. Who loses the right keeps it for that time at most. Of the tokens that are new to it the checker
// looks at a few at a time, so that whoever makes tokens up does not slow down what else the API server is
// asked; those that were good are always looked at again.
func Cached(checker Checker, now func() time.Time) Checker {
	return &cached{Checker: checker, now: now, known: map[key]remembered{}, slots: make(chan struct{}, atOnce)}
}

const (
	allowedFor = time.Minute
	refusedFor = 5 * time.Second
	maxKnown   = 1000
	// atOnce bounds the tokens that are looked at beside each other for the first time.
	atOnce = 4
)

type cached struct {
	Checker
	now   func() time.Time
	slots chan struct{}
	mu    sync.Mutex
	known map[key]remembered
}

// key stands for an action with a token.
type key [sha256.Size]byte

type remembered struct {
	user  string
	err   error
	until time.Time
}

// Allow answers from memory where it can.
func (c *cached) Allow(ctx context.Context, token string, a Action) (string, error) {
	k := key(sha256.Sum256([]byte(a.Verb + " " + a.Path + " " + token)))
	now := c.now()
	c.mu.Lock()
	r, ok := c.known[k]
	c.mu.Unlock()
	if ok && now.Before(r.until) {
		return r.user, r.err
	}
	if !ok || r.err != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		default:
			return "", ErrBusy
		}
	}
	user, err := c.Checker.Allow(ctx, token, a)
	if err != nil && !errors.Is(err, ErrToken) && !errors.Is(err, ErrForbidden) {
		return user, err
	}
	r = remembered{user: user, err: err, until: now.Add(allowedFor)}
	if err != nil {
		r.until = now.Add(refusedFor)
	}
	c.remember(k, r)
	return user, err
}

// remember makes room when there is none: refusals go first, which anybody can cause.
func (c *cached) remember(k key, r remembered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKnown {
		maps.DeleteFunc(c.known, func(_ key, r remembered) bool { return r.err != nil })
	}
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[k] = r
}
