// Package page is the review web page: what was decided about evictions, why, and what became of the
// pods. It is HTML made on the server, with one style sheet and a script that only shows times in the
// browser's zone; everything is read by GET, and all state is in the URL.
package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Store is what the page reads.
type Store interface {
	Decisions
	Episodes
	Stats(ctx context.Context, f store.Filter) (store.Stats, error)
}

// Decisions are single records.
type Decisions interface {
	List(ctx context.Context, f store.Filter, p store.Page) (store.Rows, error)
	Record(ctx context.Context, id string) (record.Record, error)
}

// Episodes are records folded by pod.
type Episodes interface {
	Episodes(ctx context.Context, f store.Filter, p store.Page) (store.Episodes, error)
	Episode(ctx context.Context, id string) (record.Episode, error)
	StuckPage(ctx context.Context, f store.Filter, triedSince time.Time, p store.Page) (store.StuckPage, error)
}

// Serving is what decides now.
type Serving struct {
	Revision string
	Policies []ServingPolicy
}

// ServingPolicy is a bound policy.
type ServingPolicy struct {
	Name, Title, Enforcement string
}

// ServingOf is what the page says of the policies that decide.
func ServingOf(set *policies.Set) Serving {
	if set == nil {
		return Serving{}
	}
	s := Serving{Revision: set.Revision()}
	for _, p := range set.Policies() {
		s.Policies = append(s.Policies, ServingPolicy{Name: p.Name, Title: p.Title, Enforcement: string(p.Enforcement)})
	}
	return s
}

// Options are the parts of a Page.
type Options struct {
	Store Store
	Log   *slog.Logger
	Now   func() time.Time
	// Timeout bounds what one page asks of the store; 10 s when it is 0.
	Timeout time.Duration
	// AtOnce is how many pages ask the store at a time, 2 when it is 0; some more wait, and one beyond is told to
	// come back. Where decisions are made beside the page it is 1.
	AtOnce int
	// Access decides who may read; nil lets everybody who reaches the address.
	Access access.Checker
	// Hosts are the names by which a browser may call the page; nil allows any. Without Access they keep
	// a foreign site from reading the page through a name of its own that leads here (DNS rebinding).
	Hosts []string
	// Serving says which policies decide now; nil when that is not known here.
	Serving func() Serving
	// Logs and Audit take uploads by POST at /logs and /audit; nil when there are none. They need Access.
	Logs, Audit http.Handler
	// Notice is a sentence shown on each page, for example that records are kept in memory only.
	Notice string
}

// Page serves the review.
type Page struct {
	options   Options
	templates map[string]*template.Template
	handler   http.Handler
	// places bounds how many pages ask the store at the same time.
	places *record.Places
	sums   sums
	static map[string]asset
}

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

const (
	defaultTimeout = 10 * time.Second
	defaultAtOnce  = 2
	maxWaiting     = 8
)

// New makes a page of its parts.
func New(o Options) (*Page, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AtOnce == 0 {
		o.AtOnce = defaultAtOnce
	}
	p := &Page{options: o, places: record.NewPlaces(o.AtOnce, maxWaiting, o.Timeout/2)}
	var err error
	if p.static, err = readStatic(staticFiles); err != nil {
		return nil, err
	}
	if p.templates, err = parse(templateFiles); err != nil {
		return nil, err
	}
	p.handler = p.routes()
	return p, nil
}

// parse reads the templates: each page is laid out by layout.html, with the parts of parts.html.
func parse(files fs.FS) (map[string]*template.Template, error) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	out := map[string]*template.Template{}
	for _, name := range names {
		short := strings.TrimSuffix(strings.TrimPrefix(name, "templates/"), ".html")
		if short == "layout" || short == "parts" {
			continue
		}
		t, err := template.New("layout.html").Funcs(functions()).ParseFS(files, "templates/layout.html", "templates/parts.html", name)
		if err != nil {
			return nil, fmt.Errorf("template %s: %w", short, err)
		}
		out[short] = t
	}
	return out, nil
}

func functions() template.FuncMap {
	return template.FuncMap{
		"outcome": outcomeLabel, "fate": fateLabel, "kind": kindLabel,
		"number": number, "plural": plural, "span": span, "visible": visible,
		"text":     func(s string) shownText { return shown(s, maxText) },
		"cell":     func(s string) shownText { return shown(s, maxCell) },
		"name":     func(s string) shownText { return shown(s, maxName) },
		"took":     func(d time.Duration) string { return d.Round(10 * time.Microsecond).String() },
		"decision": decisionPath, "episode": episodePath, "column": column,
	}
}

func (p *Page) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]viewer{
		"GET /{$}":              p.overview,
		"GET /stuck":            p.stuck,
		"GET /decisions":        p.decisions,
		"GET /decisions/{id}":   p.decision,
		"GET /episodes":         p.episodes,
		"GET /episodes/{id...}": p.episode,
		"GET /policies":         p.policies,
		"GET /budgets":          p.budgets,
	} {
		mux.Handle(pattern, p.readers(p.page(f)))
	}
	mux.HandleFunc("GET /static/{name}", p.serveStatic)
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("/", p.unknown)
	p.addAccess(mux)
	return p.secured(mux)
}

// ServeHTTP serves the page.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// viewer makes the view of a request.
type viewer func(ctx context.Context, r *http.Request, q query) (view, error)

// view is a page before it is written.
type view struct {
	title    string
	template string
	body     any
	// data is what format=json gives, sheet what format=csv gives; nil where there is none. next is the
	// address of the page after this one.
	data  any
	sheet [][]string
	next  string
}

// page makes a handler of a viewer: it reads the query, bounds the time, and answers with the page, an
// export or an error.
func (p *Page) page(f viewer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := readQuery(r.URL.RawQuery, p.options.Now())
		if err != nil {
			p.fail(w, r, badRequest{err})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), p.options.Timeout)
		defer cancel()
		leave, err := p.places.Enter(ctx)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		defer leave()
		v, err := f(ctx, r, q)
		if err == nil {
			err = p.write(w, r, q, v)
		}
		if err != nil {
			p.fail(w, r, err)
		}
	}
}

// write answers with a view in the format that the query asks for.
func (p *Page) write(w http.ResponseWriter, r *http.Request, q query, v view) error {
	switch {
	case q.format == "json" && v.data != nil:
		return writeJSON(w, v)
	case q.format == "csv" && v.sheet != nil:
		return writeCSV(w, v)
	case q.format == "csv", q.format == "json":
		return badRequest{fmt.Errorf("this page has no %s; take format away", q.format)}
	}
	return p.render(w, r, q, v, http.StatusOK)
}

// render writes HTML, whole or not at all.
func (p *Page) render(w http.ResponseWriter, r *http.Request, q query, v view, status int) error {
	var b bytes.Buffer
	if err := p.templates[v.template].Execute(&b, p.frame(r, q, v)); err != nil {
		return fmt.Errorf("template %s: %w", v.template, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
	return nil
}

// frame is what a template sees.
type frame struct {
	query
	Title  string
	Path   string
	Nav    []link
	Body   any
	Now    time.Time
	Notice string
	// User is who is logged in; empty without Access.
	User   string
	Assets map[string]asset
	// Zone names the zone of the times; Fixed is true when the URL chose it.
	Zone  string
	Fixed bool
	// CSV and JSON are the addresses of the exports; empty where there are none.
	CSV, JSON string
}

// link is an entry of the navigation, or of a choice.
type link struct {
	Href, Text string
	Current    bool
}

// sections are the entries of the navigation.
var sections = []link{
	{Href: "/", Text: "Overview"}, {Href: "/stuck", Text: "Stuck"}, {Href: "/episodes", Text: "Episodes"},
	{Href: "/decisions", Text: "Decisions"}, {Href: "/policies", Text: "Policies"}, {Href: "/budgets", Text: "Budgets"},
}

func (p *Page) frame(r *http.Request, q query, v view) frame {
	f := frame{
		query: q, Title: v.title, Path: r.URL.EscapedPath(), Body: v.body, Now: p.options.Now().UTC(),
		Notice: p.options.Notice, User: userOf(r.Context()), Assets: p.static,
		Zone: q.zone.String(), Fixed: q.values.Get("tz") != "",
	}
	for _, s := range sections {
		current := s.Href == r.URL.Path || (s.Href != "/" && strings.HasPrefix(r.URL.Path, s.Href+"/"))
		f.Nav = append(f.Nav, link{Href: q.to(s.Href), Text: s.Text, Current: current})
	}
	if v.data != nil {
		f.JSON = q.with(f.Path, "format", "json")
	}
	if v.sheet != nil {
		f.CSV = q.with(f.Path, "format", "csv")
	}
	return f
}

// To and With are the addresses of links, for templates.
func (f frame) To(path string, pairs ...string) string { return f.to(path, pairs...) }

// With keeps the page and all its parameters but those given.
func (f frame) With(pairs ...string) string { return f.with(f.Path, pairs...) }

// moment is a time as it is written: in the zone of the page, and for machines.
type moment struct {
	Machine, Text string
	// Form tells the script how to write it in the browser's zone.
	Form string
}

const timeForm = "2006-01-02 15:04:05"

// At is a time to the second.
func (f frame) At(at time.Time) moment { return f.moment(at, "full", timeForm) }

// Tick is a time on the axis of a chart that spans some time.
func (f frame) Tick(at time.Time, width time.Duration) moment {
	if width <= 36*time.Hour {
		return f.moment(at, "clock", "15:04")
	}
	return f.moment(at, "day", "2 Jan")
}

func (f frame) moment(at time.Time, form, layout string) moment {
	if at.IsZero() {
		return moment{}
	}
	return moment{Machine: at.UTC().Format(time.RFC3339Nano), Text: at.In(f.zone).Format(layout), Form: form}
}

// Ago is how long ago something was.
func (f frame) Ago(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return span(f.Now.Sub(at))
}

// Kept are the parameters that a form for some of them hands on, as hidden fields.
func (f frame) Kept(but ...string) []pair { return f.KeptBut(but) }

// KeptBut is Kept for a list.
func (f frame) KeptBut(but []string) []pair {
	var out []pair
	for _, name := range parameters {
		if v := f.values.Get(name); v != "" && !slices.Contains(but, name) && name != "after" && name != "format" {
			out = append(out, pair{name, v})
		}
	}
	return out
}

// Row is what the template of an entry needs: the frame, and the entry.
func (f frame) Row(it any) entry { return entry{F: f, It: it} }

// RowPods is Row of a list that says which pod each of its entries is about.
func (f frame) RowPods(it any) entry { return entry{F: f, It: it, Pods: true} }

// RowWhole is Row where there is place for all that is known.
func (f frame) RowWhole(it any) entry { return entry{F: f, It: it, Whole: true} }

type entry struct {
	F           frame
	It          any
	Pods, Whole bool
}

// pair is a name and a value.
type pair struct{ Name, Value string }

// Windows are the choices of how far back to look; the page's own is marked.
func (f frame) Windows() []link {
	var out []link
	for _, since := range []string{"1h", "24h", "7d", "30d"} {
		current := f.values.Get("until") == "" && (f.values.Get("since") == since || (f.values.Get("since") == "" && since == review.DefaultSince))
		out = append(out, link{Href: f.With("since", since, "until", ""), Text: since, Current: current})
	}
	return out
}

// Period says in words over which time the page looks.
func (f frame) Period() string {
	since, until := f.values.Get("since"), f.values.Get("until")
	if since == "" {
		since = review.DefaultSince
	}
	switch _, err := review.ReadAge(since); {
	case until != "" && until != "all":
		return "since " + since + " until " + until
	case since == "all":
		return "all that is kept"
	case err == nil:
		return "the last " + since
	}
	return "since " + since
}

// badRequest is an error of who asked.
type badRequest struct{ err error }

func (b badRequest) Error() string { return b.err.Error() }

// notFound is what is not there; its text says what to do.
type notFound struct{ text string }

func (n notFound) Error() string { return n.text }

// problem is what an error page says.
type problem struct {
	Status int
	// What is a sentence, Next what to do.
	What, Next string
	// Narrow is the address of the same page over a shorter time; empty when that does not help.
	Narrow string
}

// fail answers with an error: a page for people, JSON for programs that asked for it.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	pr := explain(err)
	if errors.Is(err, record.ErrBusy) { // no line in the log: whoever reaches the page can cause any number
		w.Header().Set("Retry-After", "1")
		p.refuse(w, r, pr)
		return
	}
	if pr.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		p.options.Log.Error("the review page failed", "path", r.URL.Path, "err", err)
	}
	p.refuse(w, r, pr)
}

func explain(err error) problem {
	var bad badRequest
	var missing notFound
	switch {
	case errors.As(err, &bad):
		return problem{Status: http.StatusBadRequest, What: sentence(bad.Error()), Next: "Fix the address, or start over from a page above."}
	case errors.As(err, &missing):
		return problem{Status: http.StatusNotFound, What: missing.text, Next: "Records that are older than what is kept are removed; a record that was made a moment ago may take a second to arrive."}
	case errors.Is(err, record.ErrBusy):
		return problem{Status: http.StatusServiceUnavailable, What: "Too many pages are being made.", Next: "Load it again in a moment."}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{Status: http.StatusServiceUnavailable, What: "The store did not answer in time.", Next: "Ask for a shorter time, or set more filters."}
	}
	return problem{Status: http.StatusInternalServerError, What: "The page could not be made.", Next: "The log of evictgate says why. Decisions are not affected: they are made without the store."}
}

// sentence makes one of an error's text.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (p *Page) refuse(w http.ResponseWriter, r *http.Request, pr problem) {
	if machine(r) {
		writeProblem(w, pr)
		return
	}
	q, err := readQuery(r.URL.RawQuery, p.options.Now())
	if err != nil {
		q.values = url.Values{}
	}
	if pr.Status == http.StatusServiceUnavailable {
		pr.Narrow = q.with(r.URL.EscapedPath(), "since", "1h", "until", "")
	}
	title := fmt.Sprintf("%d %s", pr.Status, http.StatusText(pr.Status))
	if err := p.render(w, r, q, view{title: title, template: "problem", body: pr}, pr.Status); err != nil {
		p.options.Log.Error("the error page failed", "err", err)
		writeProblem(w, pr)
	}
}

// machine reports whether a program asks, which is told errors as JSON.
func machine(r *http.Request) bool {
	format := r.URL.Query().Get("format")
	return format == "json" || format == "csv" || r.Header.Get("Authorization") != "" || r.Method == http.MethodPost && r.URL.Path != loginPath
}

func (p *Page) unknown(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		p.refuse(w, r, problem{Status: http.StatusMethodNotAllowed, What: "This address does not take " + r.Method + ".", Next: "The page is read by GET."})
		return
	}
	p.refuse(w, r, problem{Status: http.StatusNotFound, What: "There is no such page.", Next: "Start from one of the pages above."})
}
