package policies

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed eviction
var libraryFS embed.FS

// LibraryFS holds the shipped policies: eviction/<id>/<id>.rego with tests, suite and samples.
func LibraryFS() fs.FS { return libraryFS }

// LibraryIDs lists the ids of the embedded library, sorted.
func LibraryIDs() []string {
	entries, err := libraryFS.ReadDir("eviction")
	if err != nil {
		return nil
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// LibraryFiles returns the sources of the whole embedded library.
func LibraryFiles() []File {
	var files []File
	for _, id := range LibraryIDs() {
		files = append(files, LibraryFile(id))
	}
	return files
}

// LibraryFile is the policy of that id.
func LibraryFile(id string) File {
	name := path.Join("eviction", id, id+".rego")
	data, err := fs.ReadFile(libraryFS, name)
	if err != nil {
		// The folder's completeness is held by a test; an empty module is reported by the compiler.
		data = nil
	}
	return File{Name: "library/" + id + ".rego", Data: data}
}

// Library is the set of all policies of the embedded library, each with its own enforcement. A policy
// that must be given parameters has the examples in their schemas.
func Library() (*Set, error) {
	return compileLibrary(nil)
}

// Default is the set that serves when no policies are given: the library's policies whose METADATA
// says custom.default, with the enforcement that stands there.
func Default() (*Set, error) {
	return compileLibrary(func(m Metadata) bool { return m.Default })
}

func compileLibrary(bound func(Metadata) bool) (*Set, error) {
	parts := Parts{Bare: bound, Examples: true}
	for _, f := range LibraryFiles() {
		parts.Add(f)
	}
	set, problems := New(parts)
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}
