package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/logs"
	"github.com/evictgate/evictgate/webhook/review/render"
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

// note tells on the side what a user should know, and goes on.
func (p printer) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.err, "evictgate: %s\n", render.Line(fmt.Sprintf(format, args...)))
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

// structured prints a value as JSON or YAML; it reports false for any other format. What a terminal would
// not show as text is escaped. YAML of a value with such text is written in JSON's style, where it can be.
func (p printer) structured(format string, v any) (bool, error) {
	if format != "json" && format != "yaml" {
		return false, nil
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return true, err
	}
	escape := jsonEscape
	if format == "yaml" {
		escape = yamlEscape
		// The text is looked at before and after: to YAML's writer U+0085 is a space.
		if block, err := yaml.JSONToYAML(raw); err == nil && shown(raw) && shown(block) {
			_, err = p.out.Write(block)
			return true, err
		}
	}
	_, err = p.out.Write(append(escaped(raw, escape), '\n'))
	return true, err
}

// shown reports whether there is nothing to escape.
func shown(raw []byte) bool { return bytes.Equal(raw, escaped(raw, jsonEscape)) }

// escaped escapes what does not show, in JSON, where it stands in strings only.
func escaped(raw []byte, escape func(dst []byte, r rune) []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRune(raw[i:])
		if r != '\n' && (!render.Shows(r) || (r == utf8.RuneError && size == 1)) {
			out = escape(append(out, raw[done:i]...), r)
			done = i + size
		}
		i += size
	}
	if done == 0 {
		return raw
	}
	return append(out, raw[done:]...)
}

func jsonEscape(dst []byte, r rune) []byte {
	for _, unit := range utf16.Encode([]rune{r}) {
		dst = fmt.Appendf(dst, `\u%04x`, unit)
	}
	return dst
}

// yamlEscape is for readers that do not put two escapes together to one character.
func yamlEscape(dst []byte, r rune) []byte { return fmt.Appendf(dst, `\U%08x`, r) }

// table prints rows under a header, in columns.
func (p printer) table(header []string, rows [][]string) error {
	_, err := io.WriteString(p.out, columns(append([][]string{header}, rows...), 0))
	return err
}

// logger writes the log of a long-running command.
func (p printer) logger(format string, verbose bool) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: logs.Cut}
	if verbose {
		options.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(logs.Limit(slog.NewTextHandler(p.err, options))), nil
	case "json":
		return slog.New(logs.Limit(slog.NewJSONHandler(p.err, options))), nil
	}
	return nil, fmt.Errorf("--log-format is %q; expected text or json", format)
}
