package source

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/evictgate/evictgate/policies"
)

// ReadPathsOrStdin reads the sources of paths; - is stdin, once.
func ReadPathsOrStdin(stdin io.Reader, paths []string) ([]policies.File, error) {
	rest := slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return path == "-" })
	files, err := ReadPaths(rest...)
	if err != nil || len(rest) == len(paths) {
		return files, err
	}
	if len(rest) < len(paths)-1 {
		return nil, errors.New("- stands for stdin and can be given once")
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("read policies from stdin: %w", err)
	}
	return append(files, policies.File{Name: "stdin" + kindOfSource(data), Data: data}), nil
}

// kindOfSource is the extension that a source without a name would have: a Rego module begins with its
// package, after comments.
func kindOfSource(data []byte) string {
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			if strings.HasPrefix(line, "package ") {
				return ".rego"
			}
			break
		}
	}
	return ".yaml"
}
