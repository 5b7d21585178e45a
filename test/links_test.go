package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLinksAndHeadingsAreReadAsGitHubReadsThem(t *testing.T) {
	const page = "# Is it well?\n\n[a](b.md#c) and ![p](d.png), `[no](link)` [w](https://example.com)\n\n" +
		"```console\n# no heading\n[no](x.md)\n```\n\n## What's *in* `input.history`, 1.0\n\n## Is it well?\n"
	if got, want := linksOf(page), []string{"b.md#c", "d.png"}; !slices.Equal(got, want) {
		t.Errorf("links: %q, expected %q", got, want)
	}
	if got, want := anchorsOf(page), []string{"is-it-well", "whats-in-inputhistory-10", "is-it-well-1"}; !slices.Equal(got, want) {
		t.Errorf("anchors: %q, expected %q", got, want)
	}
}

var (
	fenced     = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	inCode     = regexp.MustCompile("`[^`\n]*`")
	linked     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headed     = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	notInSlugs = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

// linksOf are the links of a page that are not to other sites.
func linksOf(page string) (links []string) {
	for _, m := range linked.FindAllStringSubmatch(inCode.ReplaceAllString(fenced.ReplaceAllString(page, ""), ""), -1) {
		if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
			links = append(links, m[1])
		}
	}
	return links
}

// anchorsOf are the names by which GitHub links to the headings of a page.
func anchorsOf(page string) (anchors []string) {
	times := map[string]int{}
	for _, m := range headed.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		anchor := strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), ""), " ", "-")
		n := times[anchor]
		times[anchor]++
		if n > 0 {
			anchor = fmt.Sprintf("%s-%d", anchor, n)
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}

// follow says why a link of a page leads nowhere.
func follow(page, link string) error {
	file, anchor, anchored := strings.Cut(link, "#")
	to := page
	if file != "" {
		to = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(to); err != nil || !anchored {
		return err
	}
	raw, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	if anchors := anchorsOf(string(raw)); !slices.Contains(anchors, anchor) {
		return fmt.Errorf("%s has no heading #%s, but %q", to, anchor, anchors)
	}
	return nil
}
