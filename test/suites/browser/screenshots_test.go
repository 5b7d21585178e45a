package browser

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestScreenshots writes a picture of every page in light, dark and narrow, for people to look at.
func TestScreenshots(t *testing.T) {
	if *shots == "" {
		t.Skip("give -screenshots DIR to write them")
	}
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	zone(t, ctx, "Europe/Berlin")
	for name, path := range s.pages(t) {
		for _, look := range []struct {
			name, scheme  string
			width, height int64
		}{{"light", "light", 1400, 900}, {"dark", "dark", 1400, 900}, {"narrow", "light", 320, 700}} {
			scheme(t, ctx, look.scheme)
			size(t, ctx, look.width, look.height)
			do(t, ctx, chromedp.Navigate(s.URL+path))
			picture := run(t, ctx, chromedp.FullScreenshot(100))
			if err := os.WriteFile(filepath.Join(*shots, name+"-"+look.name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReadme draws the picture that docs/review.md shows.
func TestReadme(t *testing.T) {
	if *picture == "" {
		t.Skip("give -picture FILE to draw it")
	}
	s := serve(t)
	ctx := tab(t, browser(t))
	scheme(t, ctx, "light")
	size(t, ctx, 1400, 890)
	zone(t, ctx, "Europe/Berlin")
	do(t, ctx, chromedp.Navigate(s.URL))
	if err := os.WriteFile(*picture, run(t, ctx, chromedp.CaptureScreenshot()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pages are one of each kind, by name.
func (s served) pages(t *testing.T) map[string]string {
	t.Helper()
	episode := s.blocked(t)
	last := s.week.Records[0]
	for _, r := range s.week.Records {
		if r.EpisodeID() == episode.ID {
			last = r
		}
	}
	bad := s.week.Records[len(s.week.Records)-7]
	return map[string]string{
		"overview": "/?since=7d", "stuck": "/stuck", "decisions": "/decisions", "episodes": "/episodes?since=7d",
		"policies": "/policies?since=7d", "budgets": "/budgets?since=7d",
		"decision": "/decisions/" + url.PathEscape(last.DecisionID), "episode": "/episodes/" + url.PathEscape(episode.ID),
		"filtered": "/decisions?namespace=shop&outcome=delayed&since=7d", "nothing": "/decisions?namespace=nowhere",
		"hostile": "/decisions/" + url.PathEscape(bad.DecisionID), "hostiles": "/decisions?namespace=" + url.QueryEscape(bad.Request.Namespace),
		"unknown": "/nothing", "wrong": "/decisions?outcome=perhaps",
	}
}
