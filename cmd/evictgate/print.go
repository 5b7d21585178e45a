package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
)

// printer writes every byte that a user sees. Results go to out; errors, progress and the log go to
// err, so that a script can read the results. An error says what failed and, where it is known, what to
// do, in lower case and without a stack.
type printer struct {
	out, err io.Writer
}

// failure prints the error of a command that could not run.
func (p printer) failure(err error) {
	var problems policies.Problems
	if errors.As(err, &problems) {
		p.problems(problems)
		return
	}
	_, _ = fmt.Fprintf(p.err, "evictgate: %s\n", strings.TrimSpace(err.Error()))
}

// problems prints findings about policies, and how many there are.
func (p printer) problems(problems policies.Problems) {
	if len(problems) == 0 {
		return
	}
	warnings := 0
	for _, problem := range problems {
		_, _ = fmt.Fprintln(p.err, problem)
		if problem.Severity == policies.SeverityWarning {
			warnings++
		}
	}
	var counts []string
	if errs := len(problems) - warnings; errs > 0 {
		counts = append(counts, fmt.Sprintf("%d %s", errs, plural("problem", errs)))
	}
	if warnings > 0 {
		counts = append(counts, fmt.Sprintf("%d %s", warnings, plural("warning", warnings)))
	}
	_, _ = fmt.Fprintf(p.err, "evictgate: %s in the policies\n", strings.Join(counts, " and "))
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (p printer) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format, args...)
}

// structured prints a value as JSON or YAML; it reports false for any other format.
func (p printer) structured(format string, v any) (bool, error) {
	var raw []byte
	var err error
	switch format {
	case "json":
		raw, err = json.MarshalIndent(v, "", "  ")
		raw = append(raw, '\n')
	case "yaml":
		raw, err = yaml.Marshal(v)
	default:
		return false, nil
	}
	if err == nil {
		_, err = p.out.Write(raw)
	}
	return true, err
}

// table prints rows under a header, in columns.
func (p printer) table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 8, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// logger writes the log of a long-running command.
func (p printer) logger(format string, verbose bool) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		options.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(p.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.err, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q; expected text or json", format)
}
