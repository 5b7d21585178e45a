package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/output"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/suite"
)

// fmtFlags are the flags of policy fmt.
type fmtFlags struct {
	write, diff, list bool
}

func newPolicyFmt(p output.Printer) *cobra.Command {
	var f fmtFlags
	cmd := &cobra.Command{
		Use:   "fmt PATH...",
		Short: "Lay Rego out as opa fmt does",
		Long: `Fmt prints the formatted source of every *.rego below PATH, tests included; - is stdin. With --write it
rewrites the files instead, and says nothing. With --list or --diff it prints which files differ or how,
and exits 1 when one does and is not written.

The Rego inside of an EvictionPolicy's YAML is left alone.`,
		Example: `  evictgate policy fmt -w ./policies
  evictgate policy fmt --list ./policies
  evictgate policy fmt - < hello.rego`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			differ, err := f.format(p, paths)
			if err != nil {
				return err
			}
			if differ && !f.write && (f.list || f.diff) {
				return errRefused
			}
			return nil
		},
	}
	addLimits(cmd, confined.DefaultCPU, confined.DefaultMemory)
	flags := cmd.Flags()
	flags.BoolVarP(&f.write, "write", "w", false, "rewrite the files")
	flags.BoolVarP(&f.diff, "diff", "d", false, "print how files differ from their formatted source; exit 1 when they do")
	flags.BoolVarP(&f.list, "list", "l", false, "print the names of files that differ; exit 1 when there are any")
	return cmd
}

// regoFile is one file to format; the file of stdin is "-".
type regoFile struct {
	file      string
	old, want []byte
}

// format reads and formats everything before it writes anything, so that a file that cannot be parsed
// leaves the others as they are.
func (f fmtFlags) format(p output.Printer, paths []string) (differ bool, err error) {
	sources, err := readSources(paths)
	if err != nil {
		return false, err
	}
	var problems policies.Problems
	for i, s := range sources {
		out, err := suite.Format(s.file, s.old)
		var found policies.Problems
		if errors.As(err, &found) {
			problems = append(problems, found...)
		} else if err != nil {
			return false, err
		}
		sources[i].want = out
	}
	if len(problems) > 0 {
		return false, problems
	}
	for _, s := range sources {
		if !bytes.Equal(s.old, s.want) {
			differ = true
		}
		if err := f.show(p, s); err != nil {
			return differ, err
		}
	}
	return differ, nil
}

func (f fmtFlags) show(p output.Printer, s regoFile) error {
	changed := !bytes.Equal(s.old, s.want)
	if !f.write && !f.list && !f.diff {
		p.Printf("%s", s.want)
		return nil
	}
	if changed && f.list {
		p.Printf("%s\n", s.file)
	}
	if changed && f.diff {
		p.Printf("%s", diff.Diff(s.file, s.old, s.file+" (formatted)", s.want))
	}
	switch {
	case !changed || !f.write:
		return nil
	case s.file == "-":
		return errors.New("--write: stdin is no file that could be written")
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return fmt.Errorf("--write: %w", err)
	}
	return os.WriteFile(s.file, s.want, info.Mode().Perm())
}

func readSources(paths []string) ([]regoFile, error) {
	var sources []regoFile
	for _, path := range paths {
		if path == "-" {
			data, err := io.ReadAll(os.Stdin)
			if err != nil {
				return nil, fmt.Errorf("read stdin: %w", err)
			}
			sources = append(sources, regoFile{file: path, old: data})
			continue
		}
		files, err := suite.RegoFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read policies: %w", err)
			}
			sources = append(sources, regoFile{file: file, old: data})
		}
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("no *.rego in %s", strings.Join(paths, ", "))
	}
	return sources, nil
}
