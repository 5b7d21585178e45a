package page_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/review/page"
)

// tokens are those of two users; the second may not read.
type tokens struct{ asked *int }

func (a tokens) Allow(_ context.Context, token string, action access.Action) (string, error) {
	*a.asked++
	switch {
	case token == "good" && action == page.Read, token == "machine" && action != page.Read:
		return "ana", nil
	case token == "other", token == "good", token == "machine":
		return "<b>bert</b>", fmt.Errorf("%w", access.ErrForbidden)
	case token == "away":
		return "", errors.New("the API server is away")
	case token == "one too many":
		return "", access.ErrBusy
	}
	return "", access.ErrToken
}

func guarded(t *testing.T) (*httptest.Server, *int) {
	t.Helper()
	asked := 0
	took := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	h := handler(t, page.Options{Access: access.Cached(tokens{&asked}, time.Now), Logs: took, Audit: took})
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return server, &asked
}

func TestWhoHasNoTokenGetsTheForm(t *testing.T) {
	server, asked := guarded(t)
	for _, path := range []string{"/", "/stuck", "/decisions/one", "/episodes/uid-1", "/decisions?format=json", "/decisions?format=csv"} {
		for token, want := range map[string]int{"": 401, "wrong": 401, "other": 403, "away": 503, "one too many": 503, "good": 200} {
			request, _ := http.NewRequest(http.MethodGet, server.URL+path, nil)
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text := body(t, response)
			if response.StatusCode != want {
				t.Errorf("%s with %q: %d, want %d", path, token, response.StatusCode, want)
			}
			if want != 200 && (strings.Contains(text, "web-1") || strings.Contains(text, "<b>")) {
				t.Errorf("%s with %q tells something:\n%s", path, token, text)
			}
			if token == "" && !strings.Contains(path, "format") && !strings.Contains(text, "kubectl create token") {
				t.Errorf("%s does not say how to get a token:\n%s", path, text)
			}
		}
	}
	if *asked > 4+6+6 { // each token once, but the two that could not be checked
		t.Errorf("access was asked %d times", *asked)
	}
}

func TestLogin(t *testing.T) {
	server, _ := guarded(t)
	client := server.Client()
	client.Jar, _ = cookiejar.New(nil)
	post := func(path string, values url.Values, header map[string]string) *http.Response {
		t.Helper()
		request, _ := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(values.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range header {
			request.Header.Set(name, value)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	if response := post("/login", url.Values{"token": {"wrong"}, "next": {"/stuck"}}, nil); response.StatusCode != 401 || !strings.Contains(body(t, response), `value="/stuck"`) {
		t.Errorf("a wrong token: %d", response.StatusCode)
	}
	for _, header := range []map[string]string{{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}} {
		if response := post("/login", url.Values{"token": {"good"}}, header); response.StatusCode != 403 {
			t.Errorf("from another site: %d", response.StatusCode)
		}
	}
	response := post("/login", url.Values{"token": {" good\n"}, "next": {"/stuck?since=7d"}}, nil)
	if response.StatusCode != 200 || response.Request.URL.RequestURI() != "/stuck?since=7d" || !strings.Contains(body(t, response), "ana") {
		t.Errorf("login leads to %s: %d", response.Request.URL, response.StatusCode)
	}
	for next, want := range map[string]string{"//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "/stuck": "/stuck", "": "/"} {
		if got := post("/login", url.Values{"token": {"good"}, "next": {next}}, nil).Request.URL; got.Path != want || got.Host != strings.TrimPrefix(server.URL, "https://") {
			t.Errorf("next %q leads to %s", next, got)
		}
	}
	if response := post("/logs", nil, nil); response.StatusCode != 401 {
		t.Errorf("an upload with the reader's cookie: %d", response.StatusCode)
	}
	if response := post("/logout", nil, nil); response.StatusCode != 401 {
		t.Errorf("after the logout: %d", response.StatusCode)
	}
}

func TestTheCookieIsForThisPageAlone(t *testing.T) {
	server, _ := guarded(t)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.PostForm(server.URL+"/login", url.Values{"token": {"good"}})
	if err != nil {
		t.Fatal(err)
	}
	cookie := response.Cookies()[0]
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || !strings.HasPrefix(cookie.Name, "__Host-") || cookie.MaxAge != 0 {
		t.Errorf("cookie: %+v", cookie)
	}
}

func TestUploadsNeedTheirOwnRight(t *testing.T) {
	server, _ := guarded(t)
	for _, path := range []string{"/logs", "/logs/partition", "/audit"} {
		for token, want := range map[string]int{"": 401, "wrong": 401, "good": 403, "machine": 204} {
			request, _ := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader("{}"))
			request.Header.Set("Authorization", "Bearer "+token)
			response, err := server.Client().Do(request)
			if err != nil || response.StatusCode != want {
				t.Errorf("%s with %q: %v %v, want %d", path, token, response.StatusCode, err, want)
			}
		}
	}
	open := handler(t, page.Options{Logs: http.NotFoundHandler(), Audit: http.NotFoundHandler()})
	w := httptest.NewRecorder()
	open.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/logs", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("without access an upload gets %d", w.Code)
	}
}

func TestServerStops(t *testing.T) {
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	for name, config := range map[string]*tls.Config{"http": nil, "https": {Certificates: certificate.TLS.Certificates}} {
		ctx, stop := context.WithCancel(t.Context())
		server := page.Server{Handler: handler(t, page.Options{}), Listen: "127.0.0.1:0", TLS: config, Log: discard()}
		ended := make(chan error, 1)
		go func() { ended <- server.Start(ctx) }()
		time.Sleep(50 * time.Millisecond)
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the server does not stop", name)
		}
	}
	taken := page.Server{Listen: certificate.Listener.Addr().String(), Log: discard()}
	if err := taken.Start(t.Context()); err == nil {
		t.Error("an address that is taken is not an error")
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "localhost:80": true, "127.9.9.9:1": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false, "example:80": false, "127.0.0.1": false,
	} {
		if got := page.Loopback(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
