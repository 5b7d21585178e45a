package page

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
	// Read is to look at the page.
	Read = Action{"get", "/review"}
	// UploadLogs is to send decisions.
	UploadLogs = Action{"post", "/review/logs"}
	// UploadAudit is to send the API server's audit events.
	UploadAudit = Action{"post", "/review/audit"}
)

var (
	// ErrToken says that a token is not valid.
	ErrToken = errors.New("the token is not valid")
	// ErrForbidden says that the token's user may not do this; the error that wraps it names them.
	ErrForbidden = errors.New("not allowed")
)

// Access decides who may do what.
type Access interface {
	// Allow returns the name of the token's user. Its error is ErrToken, ErrForbidden, or says why it
	// could not be found out.
	Allow(ctx context.Context, token string, a Action) (user string, err error)
}

// Cached remembers for a short time what access said, so that a page does not ask the API server for each
// request. Who loses the right keeps it for that time at most.
func Cached(access Access, now func() time.Time) Access {
	return &cached{Access: access, now: now, known: map[[sha256.Size]byte]remembered{}}
}

const (
	allowedFor = time.Minute
	refusedFor = 5 * time.Second
	maxKnown   = 1000
)

type cached struct {
	Access
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
	user, err := c.Access.Allow(ctx, token, a)
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

const (
	loginPath  = "/login"
	logoutPath = "/logout"
	// cookieName begins with __Host- over TLS, so that no other host of the domain can set it.
	cookieName   = "evictgate-review"
	maxLoginBody = 64 << 10
)

func cookieFor(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-" + cookieName
	}
	return cookieName
}

type userKey struct{}

func userOf(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// readers lets those through who may read.
func (p *Page) readers(next http.Handler) http.Handler {
	if p.options.Access == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := p.allow(r, tokenOf(r), Read)
		if err != nil {
			p.unauthorised(w, r, user, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

// uploaders lets those through who hold a bearer token with the right to upload; a cookie does not count.
func (p *Page) uploaders(a Action, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, err := p.allow(r, bearer(r), a); err != nil {
			p.unauthorised(w, r, user, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Page) allow(r *http.Request, token string, a Action) (string, error) {
	if token == "" {
		return "", ErrToken
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.options.Timeout)
	defer cancel()
	return p.options.Access.Allow(ctx, token, a)
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func tokenOf(r *http.Request) string {
	if token := bearer(r); token != "" {
		return token
	}
	if cookie, err := r.Cookie(cookieFor(r)); err == nil {
		return cookie.Value
	}
	return ""
}

// login is what the login page says.
type login struct {
	// Why is why the last token was not taken; empty for the first try.
	Why string
	// Next is where to go afterwards.
	Next string
}

// unauthorised answers those that may not: with the form, or as JSON.
func (p *Page) unauthorised(w http.ResponseWriter, r *http.Request, user string, err error) {
	next := r.URL.RequestURI()
	if r.Method != http.MethodGet {
		next = "/"
	}
	p.askToken(w, r, user, err, next, tokenOf(r) != "")
}

func (p *Page) askToken(w http.ResponseWriter, r *http.Request, user string, err error, next string, tried bool) {
	status, why := http.StatusUnauthorized, ""
	switch {
	case errors.Is(err, ErrForbidden):
		status, why = http.StatusForbidden, "The token is valid, but "+visible(user)+" may not do this: give them a role with the nonResourceURL /review and the verb get."
	case !errors.Is(err, ErrToken):
		p.options.Log.Error("a token could not be checked", "err", err)
		status, why = http.StatusServiceUnavailable, "The token could not be checked; the log of evictgate says why. Try again."
	case tried:
		why = "The token is not valid: it may have expired, or be of another cluster."
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="evictgate review"`)
	if machine(r) {
		if why == "" {
			why = "A bearer token is needed."
		}
		writeProblem(w, problem{Status: status, What: why, Next: "Send one in the header Authorization, for example of: kubectl create token NAME"})
		return
	}
	q := query{values: map[string][]string{}, zone: time.UTC}
	if err := p.render(w, r, q, view{title: "Log in", template: "login", body: login{Why: why, Next: next}}, status); err != nil {
		p.options.Log.Error("the login page failed", "err", err)
	}
}

// addAccess adds what is sent by POST. A browser sends it only from the page itself.
func (p *Page) addAccess(mux *http.ServeMux) {
	if p.options.Access == nil {
		return
	}
	own := http.NewCrossOriginProtection()
	mux.Handle("POST "+loginPath, own.Handler(http.HandlerFunc(p.login)))
	mux.Handle("POST "+logoutPath, own.Handler(http.HandlerFunc(logout)))
	if p.options.Logs != nil {
		logs := own.Handler(p.uploaders(UploadLogs, p.options.Logs))
		mux.Handle("POST /logs", logs)
		mux.Handle("POST /logs/{partition}", logs)
	}
	if p.options.Audit != nil {
		mux.Handle("POST /audit", own.Handler(p.uploaders(UploadAudit, p.options.Audit)))
	}
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBody)
	next := ownPath(r.PostFormValue("next"))
	token := strings.TrimSpace(r.PostFormValue("token"))
	user, err := p.allow(r, token, Read)
	if err != nil {
		p.askToken(w, r, user, err, next, true)
		return
	}
	http.SetCookie(w, cookie(r, token, 0))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, cookie(r, "", -1))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// cookie holds the token for as long as the browser runs. Plain HTTP is served on loopback addresses only.
func cookie(r *http.Request, token string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieFor(r), Value: token, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

// ownPath is a place of this page to go to; anything else is the overview.
func ownPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
