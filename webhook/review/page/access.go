package page

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/access"
)

var (
	// Read is to look at the page.
	Read = access.Action{Verb: "get", Path: "/review"}
	// UploadLogs is to send decisions.
	UploadLogs = access.Action{Verb: "post", Path: "/review/logs"}
	// UploadAudit is to send the API server's audit events.
	UploadAudit = access.Action{Verb: "post", Path: "/review/audit"}
)

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
func (p *Page) uploaders(a access.Action, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, err := p.allow(r, access.Bearer(r), a); err != nil {
			p.unauthorised(w, r, user, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Page) allow(r *http.Request, token string, a access.Action) (string, error) {
	if token == "" {
		return "", access.ErrToken
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.options.Timeout)
	defer cancel()
	return p.options.Access.Allow(ctx, token, a)
}

func tokenOf(r *http.Request) string {
	if token := access.Bearer(r); token != "" {
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
	case errors.Is(err, access.ErrForbidden):
		status, why = http.StatusForbidden, "The token is valid, but "+visible(user)+" may not do this: give them a role with the nonResourceURL /review and the verb get."
	case errors.Is(err, access.ErrBusy): // no line in the log: whoever reaches the page can cause any number
		w.Header().Set("Retry-After", "1")
		status, why = http.StatusServiceUnavailable, "Too many tokens are being checked. Try again."
	case !errors.Is(err, access.ErrToken):
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
