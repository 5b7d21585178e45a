package page

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
)

// policy is the page's Content-Security-Policy: its own style sheet, script and images, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secured puts headers, the check of the host and the guard against panics around the routes.
func (p *Page) secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		// Not no-referrer: with it browsers send the login form with "Origin: null".
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		defer func() {
			if v := recover(); v != nil {
				p.fail(w, r, fmt.Errorf("panic: %v", v))
			}
		}()
		if r.URL.Path != "/healthz" && !hostAllowed(r.Host, p.options.Hosts) {
			p.refuse(w, r, problem{
				Status: http.StatusMisdirectedRequest, What: "The page is not called " + visible(shorten(hostname(r.Host))) + ".",
				Next: "Open it as localhost, or start evictgate with --review-host and this name.",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func shorten(s string) string { return s[:min(len(s), 253)] }

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

func hostAllowed(host string, hosts []string) bool {
	return hosts == nil || slices.Contains(hosts, hostname(host))
}

// LoopbackHosts are the names of this machine for itself.
func LoopbackHosts() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// asset is a file of the page's own. Its address changes with its content.
type asset struct {
	Href    string
	kind    string
	content []byte
}

func readStatic(files fs.FS) (map[string]asset, error) {
	out := map[string]asset{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		base := path.Base(name)
		out[base] = asset{
			Href: "/static/" + base + "?v=" + hex.EncodeToString(sum[:6]), kind: mime.TypeByExtension(path.Ext(base)), content: raw,
		}
		return nil
	})
	return out, err
}

func (p *Page) serveStatic(w http.ResponseWriter, r *http.Request) {
	a, ok := p.static[r.PathValue("name")]
	if !ok {
		p.unknown(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(a.content)
}
