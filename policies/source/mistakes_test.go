package source

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/evictgate/evictgate/policies"
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
			file := policies.File{Name: e.Name(), Data: data}
			if _, err = Compile([]policies.File{file}); err == nil {
				t.Fatal("it compiles")
			}
			golden(t, filepath.Join(dir, e.Name()+".want"), problemLines(t, err))
		})
	}
	if tried < enough {
		t.Errorf("tried %d mistakes, expected at least %d", tried, enough)
	}
}
