package report

import (
	"path/filepath"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
)

// Begun tells what was written, and what to do next.
func Begun(p output.Printer, dir, id string, files []policies.File) {
	p.Printf("made\n")
	for _, f := range files {
		p.Printf("  %s\n", filepath.Join(dir, f.Name))
	}
	p.Printf("next\n")
	for _, line := range []string{
		"say in " + filepath.Join(dir, id+".rego") + " what it holds, and change its rule and its tests",
		"evictgate policy test " + dir,
		"evictgate policy check " + dir,
		"evictgate policy eval --policies " + dir + " --snapshot cluster.yaml --explain NAMESPACE/POD",
		"evictgate serve --policies " + dir,
	} {
		p.Printf("  %s\n", line)
	}
}
