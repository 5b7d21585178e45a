// Package browser opens the review page in a real browser.
package browser

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/evictgate/evictgate/test/suites/browser/morning"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/page"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// now is the morning after.
var now = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// chromium finds the browser. Without one a test is skipped at home, and fails where nobody would notice.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no Chromium found on PATH; install it, for example with: apt-get install chromium"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// browser starts one browser for a test.
func browser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(stop)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	t.Cleanup(closeBrowser)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// tab opens a tab that fails the test when the page writes to its console, or when the browser complains,
// for example of a breach of the Content-Security-Policy.
func tab(t *testing.T, browser context.Context) context.Context {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	call(t, ctx, cdplog.Enable, cdp.Empty{})
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *cdplog.EventEntryAdded:
			if e.Entry.Source != cdplog.EntrySourceNetwork { // the pages that say 404 are wanted
				t.Errorf("the browser complains: %s %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
			}
		case *runtime.EventConsoleAPICalled:
			t.Errorf("the page writes to the console: %s", e.Type)
		case *runtime.EventExceptionThrown:
			t.Errorf("the script throws: %s", e.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	size(t, ctx, 1400, 900)
	return ctx
}

func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func run[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func call[P, R any](t *testing.T, ctx context.Context, command cdp.Command[P, R], params P) R {
	t.Helper()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

func size(t *testing.T, ctx context.Context, width, height int64) {
	t.Helper()
	call(t, ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

func scheme(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	call(t, ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

func zone(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	call(t, ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
}

// served is a page over a store with a week in it.
type served struct {
	*httptest.Server
	store *store.Store
	week  morning.Week
}

// serve fills a real store and serves the page over it.
func serve(t *testing.T, change ...func(*morning.Week)) served {
	t.Helper()
	s := served{store: open(t)}
	var err error
	if s.week, err = morning.Until(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&s.week)
	}
	if err := fill(t.Context(), s.store, s.week); err != nil {
		t.Fatal(err)
	}
	o := page.Options{
		Store: s.store, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: func() time.Time { return now },
		Hosts: page.LoopbackHosts(), Serving: s.serving,
	}
	handler, err := page.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// attacked adds records that somebody made with bad intent.
func attacked(w *morning.Week) { w.Records = append(w.Records, hostile(w.Records[0])...) }

func open(t *testing.T) *store.Store {
	t.Helper()
	records, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "records.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = records.Close() })
	return records
}

func fill(ctx context.Context, s *store.Store, week morning.Week) error {
	_, err := s.Add(ctx, week.Records)
	_, err2 := s.AddAnswers(ctx, week.Answers)
	return errors.Join(err, err2, s.AddSightings(ctx, week.Sightings))
}

func (s served) serving() page.Serving {
	out := page.Serving{Revision: s.week.Policies.Revision()}
	for _, p := range s.week.Policies.Policies() {
		out.Policies = append(out.Policies, page.ServingPolicy{Name: p.Name, Title: p.Title, Enforcement: string(p.Enforcement)})
	}
	return out
}

// blocked is the episode of the pod that crashes' neighbour, with many tries.
func (s served) blocked(t *testing.T) record.Episode {
	t.Helper()
	stuck, err := s.store.Stuck(t.Context(), store.Filter{Workload: "Deployment/api"}, now.Add(-24*time.Hour))
	if err != nil || len(stuck) == 0 {
		t.Fatalf("nothing is stuck: %v", err)
	}
	return stuck[0]
}

var (
	shots   = flag.String("screenshots", "", "write pictures of every page into this directory")
	picture = flag.String("picture", "", "draw the picture of docs/review.md into this file")
)
