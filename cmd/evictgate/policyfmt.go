package main

import (
	"errors"
	"os"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
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

func (f fmtFlags) format(p output.Printer, paths []string) (differ bool, err error) {
	files, err := suite.FormatFiles(os.Stdin, paths)
	if err != nil {
		return false, err
	}
	for _, file := range files {
		differ = differ || file.Differs()
		if err := f.show(p, file); err != nil {
			return differ, err
		}
	}
	return differ, nil
}

func (f fmtFlags) show(p output.Printer, s suite.Formatted) error {
	changed := s.Differs()
	if !f.write && !f.list && !f.diff {
		p.Printf("%s", s.Want)
		return nil
	}
	if changed && f.list {
		p.Printf("%s\n", s.File)
	}
	if changed && f.diff {
		p.Printf("%s", diff.Diff(s.File, s.Old, s.File+" (formatted)", s.Want))
	}
	switch {
	case !changed || !f.write:
		return nil
	case s.File == "-":
		return errors.New("--write: stdin is not a file that could be written")
	}
	return s.Write()
}
