package suite

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// Format lays a Rego module out as the opa program does. The error is of type Problems when it cannot be
// parsed; name is what it is called there.
func Format(name string, src []byte) ([]byte, error) {
	out, err := format.SourceWithOpts(name, src, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, policies.Language().Problems(err, name)
	}
	return out, nil
}

// RegoFiles lists the *.rego below the paths, tests included, in order. Hidden directories and samples
// are left out; a path that is a file is taken as it is.
func RegoFiles(paths ...string) ([]string, error) {
	var files []string
	for _, root := range paths {
		info, err := os.Stat(root)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		if !info.IsDir() {
			files = append(files, root)
			continue
		}
		found, err := below(root)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		for _, file := range found {
			if filepath.Ext(file) == ".rego" {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// below lists the files of a directory and of those in it, but for hidden ones and samples.
func below(root string) ([]string, error) {
	var files []string
	root = strings.TrimRight(root, "/") + "/" // a link is followed, as a mounted ConfigMap is one
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && source.SkipsDir(d.Name()):
			return fs.SkipDir
		case !d.IsDir() && !strings.HasPrefix(d.Name(), "."):
			files = append(files, filepath.Clean(name))
		}
		return nil
	})
	return files, err
}
