package policies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMistakes compiles what people write by mistake: each file of testdata/mistakes, on its own, must be
// told the lines of the file of that name and .want.
func TestMistakes(t *testing.T) {
	const enough = 100 // mistakes; a folder that lost its files must not pass
	dir := filepath.Join("testdata", "mistakes")
	entries, err := os.ReadDir(dir)
	must(t, err)
	tried := 0
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".want" {
			continue
		}
		tried++
		t.Run(e.Name(), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
			file := File{Name: e.Name(), Data: data}
			if _, err = Compile([]File{file}); err == nil {
				t.Fatal("it compiles")
			}
			golden(t, filepath.Join(dir, e.Name()+".want"), problemLines(t, err))
		})
	}
	if tried < enough {
		t.Errorf("tried %d mistakes, expected at least %d", tried, enough)
	}
}

// golden compares lines with those of a file.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	text := strings.Join(append(lines, ""), "\n")
	if *update {
		must(t, os.WriteFile(name, []byte(text), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s -want +got:\n%s", name, diff)
	}
}
