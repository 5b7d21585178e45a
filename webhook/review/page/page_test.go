package page_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/page"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

var now = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func records(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "records.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// refused is a decision that a budget refused, some time before now.
func refused(id string, ago time.Duration) record.Record {
	at := now.Add(-ago)
	since := metav1.NewTime(at.Add(-time.Hour))
	d := &policies.Decision{
		Outcome: policies.Delayed, Code: 429, Reason: "TooManyRequests", Message: "Cannot evict pod as it would violate the pod's disruption budget. Budget shop/web needs 2.",
		Violations: []policies.Violation{{Policy: "night-freeze", Effect: policies.Delay, Enforcement: policies.Audit, Reason: "it is night", Detail: map[string]any{"window": "night", "hours": []any{22.0, 6.0}}}},
		Causes:     []policies.Cause{{Type: "DisruptionBudget", Message: "The disruption budget web needs 2 healthy pods", Field: "web"}},
		Warnings:   []string{"pod web-2: CrashLoopBackOff"},
		Failures:   []policies.Failure{},
		Disruption: &policies.Disruption{
			Code: 429, Detail: "Budget shop/web needs 2", Budgets: []string{"web"}, Cures: []string{"fix web-2"},
			Blockers: []policies.Blocker{{Name: "web-2", Why: "CrashLoopBackOff", Since: &since}},
		},
		Revision: "rev-1",
	}
	return record.Record{
		Version: record.Version, DecisionID: id, Timestamp: at, Labels: map[string]string{"id": "replica-1"}, Path: "eviction", RequestedBy: "admin", Revision: "rev-1",
		Request: record.Request{Namespace: "shop", Name: "web-1", User: policies.User{Username: "admin", Groups: []string{"ops"}}, Evictor: "user", Annotations: map[string]string{}},
		Pod:     &record.Object{Kind: "Pod", Name: "web-1", UID: "uid-1", Node: "node-a"}, Owner: &record.Object{Kind: "Deployment", Name: "web", UID: "o"},
		InputRefs: []string{"input.pod"}, Result: d, Metrics: map[string]int64{"timer_rego_query_eval_ns": 120_000},
		Input: json.RawMessage(`{"budgets":[{"name":"web","min_available":"2","current_healthy":1,"desired_healthy":2,"expected_pods":3,"disruptions_allowed":0}]}`),
	}
}

func handler(t testing.TB, o page.Options) *page.Page {
	t.Helper()
	if o.Store == nil {
		s := records(t)
		if _, err := s.Add(t.Context(), []record.Record{refused("one", time.Hour), refused("two", 2*time.Hour)}); err != nil {
			t.Fatal(err)
		}
		o.Store = s
	}
	o.Now, o.Log = func() time.Time { return now }, discard()
	p, err := page.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t testing.TB, h http.Handler, target string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestPages(t *testing.T) {
	h := handler(t, page.Options{Serving: func() page.Serving {
		return page.Serving{Revision: "rev-2", Policies: []page.ServingPolicy{{Name: "idle", Title: "Does nothing yet", Enforcement: "warn"}}}
	}})
	for target, want := range map[string][]string{
		"/":                             {"<h1>Overview</h1>", "No pod is stuck", "1 pod</a> refused", "2 decisions, 2 refused", "shop/web"},
		"/stuck":                        {"1 other pod is still refused, but nobody has tried to evict it since"},
		"/stuck?tried=all":              {"web-1", "fix web-2", "2 h", "1 pod"},
		"/decisions":                    {"2 decisions on this page", "/decisions/one", "Deployment/web on node-a"},
		"/decisions?since=90m":          {"1 decision on this page", "since=90m"},
		"/decisions?outcome=admitted":   {"No decision fits these filters"},
		"/decisions/one":                {"Needed</th>", "CrashLoopBackOff", "fix web-2", "hours", "[22,6]", "rev-1", "120µs", "minAvailable 2", "blocked"},
		"/episodes":                     {"uid-1", "blocked"},
		"/episodes/uid-1":               {", 2 times</span>", "nothing has been seen of the pod&#39;s end", "/decisions?episode=uid-1"},
		"/policies":                     {"night-freeze", "does not serve", "rev-2", "Does nothing yet"},
		"/budgets":                      {"shop/web", "Budgets in trouble"},
		"/decisions?tz=Europe%2FBerlin": {"2026-11-23 08:00:00</time>", `datetime="2026-11-23T07:00:00Z"`, `data-zone="Europe/Berlin"`},
	} {
		response := get(t, h, target)
		text := body(t, response)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", target, response.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q:\n%s", target, w, text)
			}
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	h := handler(t, page.Options{})
	for target, want := range map[string]struct {
		status int
		text   string
	}{
		"/nothing":                      {404, "There is no such page."},
		"/decisions/none":               {404, "There is no decision none."},
		"/episodes/shop/none":           {404, "There is no episode shop/none."},
		"/decisions?outcome=perhaps":    {400, "expected one of admitted, delayed, denied, undecided"},
		"/decisions?namspace=shop":      {400, `nknown parameter "namspace": expected some of since, until, `},
		"/decisions?pod=a&pod=b":        {400, "give it once"},
		"/decisions?since=yesterday":    {400, `Since: invalid time "yesterday": expected an age`},
		"/decisions?since=1h&until=2h":  {400, "Until is not after since."},
		"/decisions?limit=0":            {400, "a number from 1 to 10000"},
		"/decisions?after=nonsense":     {400, "not a mark of a page"},
		"/decisions?tz=Moon%2FBase":     {400, `invalid time zone "Moon/Base"`},
		"/episodes?fate=unhappy":        {400, "expected one of evicted"},
		"/decisions?dry_runs=perhaps":   {400, "expected true or false"},
		"/decisions?pod=%ff":            {400, "not valid UTF-8"},
		"/decisions?%zz":                {400, "cannot be read"},
		"/decisions/one?format=csv":     {400, `"error":"This page has no csv`},
		"/decisions?format=json&pod=%0": {400, `"error":`},
	} {
		response := get(t, h, target)
		text := strings.ReplaceAll(body(t, response), "&#34;", `"`)
		if response.StatusCode != want.status || !strings.Contains(text, want.text) {
			t.Errorf("%s: %d, want %d with %q:\n%s", target, response.StatusCode, want.status, want.text, text)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/decisions", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}

// faulty is a store that does not answer.
type faulty struct {
	page.Store
	err error
}

func (f faulty) Stats(ctx context.Context, _ store.Filter) (store.Stats, error) {
	if f.err != nil {
		return store.Stats{}, f.err
	}
	<-ctx.Done()
	return store.Stats{}, fmt.Errorf("read: %w", ctx.Err())
}

func TestAStoreThatFails(t *testing.T) {
	h := handler(t, page.Options{Store: faulty{}, Timeout: 10 * time.Millisecond})
	response := get(t, h, "/?since=30d")
	if text := body(t, response); response.StatusCode != 503 || !strings.Contains(text, `href="/?since=1h"`) {
		t.Errorf("a slow store: %d\n%s", response.StatusCode, text)
	}
	h = handler(t, page.Options{Store: faulty{err: errors.New("password=secret refused")}})
	response = get(t, h, "/")
	if text := body(t, response); response.StatusCode != 500 || strings.Contains(text, "secret") {
		t.Errorf("a failing store: %d\n%s", response.StatusCode, text)
	}
}

func TestHeaders(t *testing.T) {
	h := handler(t, page.Options{})
	for _, target := range []string{"/", "/nothing", "/decisions?format=csv", "/decisions?format=json", "/static/page.css", "/healthz"} {
		header := get(t, h, target).Header
		if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'; script-src 'self';") || strings.Contains(header.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: Content-Security-Policy is %q", target, header.Get("Content-Security-Policy"))
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
			if header.Get(name) != want {
				t.Errorf("%s: %s is %q", target, name, header.Get(name))
			}
		}
		if want := map[bool]string{true: "public, max-age=86400", false: "no-store"}[strings.HasPrefix(target, "/static/")]; header.Get("Cache-Control") != want {
			t.Errorf("%s: Cache-Control is %q", target, header.Get("Cache-Control"))
		}
		if header.Get("Content-Type") == "" {
			t.Errorf("%s has no Content-Type", target)
		}
	}
}

func TestTheHostIsChecked(t *testing.T) {
	h := handler(t, page.Options{Hosts: append(page.LoopbackHosts(), "review.example")})
	for host, want := range map[string]int{
		"localhost:8082": 200, "127.0.0.1:8082": 200, "[::1]:8082": 200, "localhost": 200, "LOCALHOST:1": 200, "review.example": 200, "review.example.": 200,
		"evil.example": 421, "evil.example:8082": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:8082": 421, "": 421, "10.0.0.1:8082": 421, "<script>": 421,
	} {
		response := get(t, h, "/", func(r *http.Request) { r.Host = host })
		if response.StatusCode != want {
			t.Errorf("%q: %d, want %d", host, response.StatusCode, want)
		}
		if text := body(t, response); strings.Contains(text, "<script>") {
			t.Errorf("%q is taken for HTML", host)
		}
		if response := get(t, h, "/healthz", func(r *http.Request) { r.Host = host }); response.StatusCode != 200 {
			t.Errorf("healthz by %q: %d", host, response.StatusCode)
		}
	}
}

func TestExportsAreWhatTheStoreHas(t *testing.T) {
	s := records(t)
	var list []record.Record
	for i := range 25 {
		r := refused(fmt.Sprintf("id-%02d", i), time.Duration(i)*time.Minute)
		r.Result.Message = []string{"=1+1", "+cmd", "-x", "@sum", "'quoted", "plain, with \"quotes\"\nand a line", "\ttab"}[i%7]
		list = append(list, r)
	}
	if _, err := s.Add(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	h := handler(t, page.Options{Store: s})
	want, err := s.List(t.Context(), store.Filter{}, store.Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got store.Rows
	decode(t, get(t, h, "/decisions?format=json"), &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	var stats, wantStats store.Stats
	decode(t, get(t, h, "/?format=json&since=2026-11-22&until=2026-11-24"), &stats)
	wantStats, err = s.Stats(t.Context(), store.Filter{Since: now.Truncate(24 * time.Hour).Add(-24 * time.Hour), Until: now.Truncate(24 * time.Hour).Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantStats, stats); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	var rows [][]string
	target := "/decisions?format=csv&limit=10"
	for pages := 0; target != ""; pages++ {
		response := get(t, h, target)
		part, err := csv.NewReader(response.Body).ReadAll()
		if err != nil || pages > 3 {
			t.Fatalf("page %d: %v", pages, err)
		}
		rows = append(rows, part[1:]...)
		target = strings.TrimSuffix(strings.TrimPrefix(response.Header.Get("Link"), "<"), `>; rel="next"`)
	}
	column := func(name string) int { return slices.Index(render.Decisions.Names(), name) }
	for i, row := range want.Rows {
		if message := rows[i][column("message")]; rows[i][column("decision_id")] != row.ID || strings.TrimPrefix(message, "'") != output.Line(row.Message) ||
			rows[i][column("code")] != "429" || strings.ContainsAny(message[:1], "=+-@\t") {
			t.Errorf("row %d: %q, want %+v", i, rows[i], row)
		}
	}
	if len(rows) != len(want.Rows) {
		t.Errorf("%d rows, want %d", len(rows), len(want.Rows))
	}
}

func decode(t *testing.T, response *http.Response, into any) {
	t.Helper()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// FuzzQuery: whatever a URL says, the answer is a page or an export, or says what is wrong, and never
// holds the query as HTML.
func FuzzQuery(f *testing.F) {
	h := handler(f, page.Options{})
	for _, seed := range []string{
		"since=24h&outcome=delayed", "tz=Europe/Berlin&format=csv", "pod=%3Cscript%3Ealert(1)%3C/script%3E", "since=all&until=2026-11-23", "after=MTIz", "limit=10000&dry_runs=true",
		"since=-1h", "since=1e300d", "since=NaNd", "tz=../../etc/passwd", "tz=Local", "policy=%22%3E%3Cimg%20src=x%3E", "episode=a/b", "workload=/", "budget=/", "until=0001-01-01", "since=9999-12-31",
	} {
		for i := range 6 {
			f.Add(i, seed)
		}
	}
	paths := []string{"/", "/stuck", "/decisions", "/episodes", "/policies", "/budgets"}
	f.Fuzz(func(t *testing.T, which int, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: paths[uint(which)%uint(len(paths))], RawQuery: query}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d\n%s", r.URL, w.Code, w.Body)
		}
		for _, part := range []string{"<script>alert", "<img"} {
			if strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: the page holds %s", r.URL, part)
			}
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// held is a store whose sums wait until they are let go, and that counts them.
type held struct {
	page.Store
	asked chan struct{}
	open  chan struct{}
}

func (h held) Stats(ctx context.Context, _ store.Filter) (store.Stats, error) {
	h.asked <- struct{}{}
	select {
	case <-h.open:
		return store.Stats{}, nil
	case <-ctx.Done():
		return store.Stats{}, ctx.Err()
	}
}

// TestPagesAreMadeAFewAtATime: beyond some that wait, one is told to come back, and the store is not asked.
func TestPagesAreMadeAFewAtATime(t *testing.T) {
	s := held{asked: make(chan struct{}, 100), open: make(chan struct{})}
	h := handler(t, page.Options{Store: s, AtOnce: 1, Timeout: time.Minute})
	codes := make(chan int, 100)
	const more = 12
	for range more {
		go func() {
			response := httptest.NewRecorder()
			h.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "http://localhost/policies", nil))
			codes <- response.Code
		}()
	}
	for range more - 9 { // one is made, and eight wait
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Errorf("one too many: %d", code)
		}
	}
	if n := len(s.asked); n > 1 {
		t.Errorf("the store is asked for %d pages at once", n)
	}
	response := get(t, h, "/policies?format=json")
	if text := body(t, response); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || !strings.Contains(text, "Too many pages are being made.") {
		t.Errorf("%d %s", response.StatusCode, text)
	}
	close(s.open)
	for range 9 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one that waited: %d", code)
		}
	}
}

// slow is a store whose sums take long.
type slow struct {
	page.Store
	asked *atomic.Int64
}

func (s slow) Stats(context.Context, store.Filter) (store.Stats, error) {
	s.asked.Add(1)
	time.Sleep(400 * time.Millisecond)
	return store.Stats{}, nil
}

// TestASumThatTookLongIsShownAgain: within two seconds here; another question is asked anew.
func TestASumThatTookLongIsShownAgain(t *testing.T) {
	asked := &atomic.Int64{}
	h := handler(t, page.Options{Store: slow{asked: asked}, Timeout: time.Minute})
	began := time.Now()
	for range 5 {
		get(t, h, "/policies")
		get(t, h, "/budgets?format=json")
	}
	get(t, h, "/policies?namespace=shop")
	if n := asked.Load(); n != 2 && time.Since(began) < 2*time.Second {
		t.Errorf("asked %d times", n)
	}
}
