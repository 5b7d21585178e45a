package test

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxREADME keeps the README short enough to be read; the rest has a page in docs/.
const maxREADME = 12 << 10

const docsIndex = "../docs/index.md"

func TestTheREADMEIsShort(t *testing.T) {
	if n := len(readText(t, "../README.md")); n > maxREADME {
		t.Errorf("README.md has %d bytes; at most %d are wanted, so give what it says a page in docs/", n, maxREADME)
	}
}

// A link is good when it names a file of the repository, and below it a heading that is there.
func TestEveryLinkOfTheDocsLeadsSomewhere(t *testing.T) {
	links := 0
	for _, page := range docsPages(t) {
		for _, link := range linksOf(readText(t, page)) {
			links++
			if err := follow(page, link); err != nil {
				t.Errorf("%s links to %s: %v", page, link, err)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found: they are not read as they are written", links)
	}
}

// A page that the index does not lead to is found by nobody.
func TestTheIndexLeadsToEveryPage(t *testing.T) {
	seen := map[string]bool{docsIndex: true}
	for waiting := []string{docsIndex}; len(waiting) > 0; waiting = waiting[1:] {
		for _, link := range linksOf(readText(t, waiting[0])) {
			file, _, _ := strings.Cut(link, "#")
			to := filepath.Join(filepath.Dir(waiting[0]), file)
			if inDocs(to) && !seen[to] {
				seen[to], waiting = true, append(waiting, to)
			}
		}
	}
	direct := linksOf(readText(t, docsIndex))
	for _, page := range docsPages(t) {
		if !inDocs(page) {
			continue
		}
		name, _ := filepath.Rel("../docs", page)
		switch {
		case !seen[page]:
			t.Errorf("%s is not reached from %s", page, docsIndex)
		case page != docsIndex && filepath.Dir(name) == "." && !slices.Contains(direct, name):
			t.Errorf("%s does not list %s", docsIndex, name)
		}
	}
}

// docsPages are all pages that people read, by their paths from here.
func docsPages(t *testing.T) []string {
	t.Helper()
	pages := []string{"../README.md", "../CONTRIBUTING.md", "../SECURITY.md"}
	err := filepath.WalkDir("../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	track(t, "../docs")
	return pages
}

func inDocs(path string) bool {
	return strings.HasPrefix(path, filepath.Join("..", "docs")+string(filepath.Separator)) && filepath.Ext(path) == ".md"
}
