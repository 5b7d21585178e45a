package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// idioms are turns that people have stumbled over, and what to write instead.
var idioms = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(\w+) (?:is|are|was|were) no ([a-z%]\S*)`), "write: is not a …"},
	{regexp.MustCompile(`(\w+) (?:is|are) none of ([a-z%]\S*)`), "write: invalid … %q: expected …"},
	{regexp.MustCompile(`(?i)()\b(mend(?:s|ed|ing)?)\b`), "write: fix"},
	{regexp.MustCompile(`(?i)()\b((?:refuse|block|delaye?)[ds] still)\b`), "write: still …"},
	{regexp.MustCompile(`(?i)()\b(take all away|stands? with it)\b`), "say it plainly"},
}

// stumbles are the idioms in a text. "There is no pod web" is English, and so is "no longer".
func stumbles(text string) (found []string) {
	for _, i := range idioms {
		for _, m := range i.pattern.FindAllStringSubmatch(text, -1) {
			switch {
			case strings.EqualFold(m[1], "there"), m[2] == "longer", m[2] == "later", m[2] == "more", m[2] == "earlier":
			default:
				found = append(found, fmt.Sprintf("%q: %s", m[0], i.instead))
			}
		}
	}
	return found
}

func TestIdiomsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		"after is no mark of a page":             1,
		"%q is none of deny, delay":              1,
		"Mend the budget, then mend the pod":     2,
		"the pod is refused still":               1,
		"there is no pod web; There is no store": 0,
		"the pod is no longer there":             0,
		"recommended amendments":                 0,
	} {
		if got := stumbles(text); len(got) != want {
			t.Errorf("%s: %q, expected %d", text, got, want)
		}
	}
}

// What people read is plain English: messages in Go, pages, policies and manifests.
func TestTextsArePlainEnglish(t *testing.T) {
	texts := 0
	for _, root := range []string{"../certs", "../cmd", "../config", "../docs", "../policies", "../webhook"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() == "testdata" {
				return orSkip(err, fs.SkipDir)
			}
			for line, text := range textsOf(t, path) {
				texts++
				for _, s := range stumbles(text) {
					t.Errorf("%s:%d: %s", path, line, s)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, page := range []string{"../README.md", "../CONTRIBUTING.md", "../SECURITY.md"} {
		for line, text := range textsOf(t, page) {
			for _, s := range stumbles(text) {
				t.Errorf("%s:%d: %s", page, line, s)
			}
		}
	}
	if texts < 3000 {
		t.Errorf("only %d texts were read", texts)
	}
}

func orSkip(err, skip error) error {
	if err != nil {
		return err
	}
	return skip
}

// textsOf are the texts for people in a file, by line: the string literals of Go, all of the lines of others.
func textsOf(t *testing.T, path string) map[int]string {
	t.Helper()
	texts := map[int]string{}
	switch filepath.Ext(path) {
	case ".go":
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					texts[files.Position(lit.Pos()).Line] += text + "\n"
				}
			}
			return true
		})
	case ".md", ".rego", ".html", ".yaml", ".tpl":
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(raw), "\n") {
			texts[i+1] = line
		}
	}
	return texts
}
