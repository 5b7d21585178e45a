package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/evictgate/evictgate/policies"
)

// Formatted is a file with its formatted source; that of stdin is "-".
type Formatted struct {
	File      string
	Old, Want []byte
}

// Differs reports whether formatting changes it.
func (f Formatted) Differs() bool { return !bytes.Equal(f.Old, f.Want) }

// Write writes the formatted source into the file.
func (f Formatted) Write() error {
	info, err := os.Stat(f.File)
	if err != nil {
		return fmt.Errorf("--write: %w", err)
	}
	return os.WriteFile(f.File, f.Want, info.Mode().Perm())
}

// FormatFiles formats every *.rego below the paths, tests included; - is stdin. It reads and formats everything before anything
// is written, so that a file that cannot be parsed leaves the others as they are.
func FormatFiles(stdin io.Reader, paths []string) ([]Formatted, error) {
	files, err := readSources(stdin, paths)
	if err != nil {
		return nil, err
	}
	var problems policies.Problems
	for i, f := range files {
		var found policies.Problems
		files[i].Want, err = Format(f.File, f.Old)
		if errors.As(err, &found) {
			problems = append(problems, found...)
		} else if err != nil {
			return nil, err
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return files, nil
}

func readSources(stdin io.Reader, paths []string) ([]Formatted, error) {
	var sources []Formatted
	for _, path := range paths {
		if path == "-" {
			data, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("read stdin: %w", err)
			}
			sources = append(sources, Formatted{File: path, Old: data})
			continue
		}
		files, err := RegoFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read policies: %w", err)
			}
			sources = append(sources, Formatted{File: file, Old: data})
		}
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("no *.rego in %s", strings.Join(paths, ", "))
	}
	return sources, nil
}
