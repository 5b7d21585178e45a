// Package output is how the command line prints: to which stream, in which format, and so that a terminal shows what is
// there, whatever a cluster put into it. What a result looks like is said beside what it belongs to.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// Printer writes every byte that a user sees. An error says what failed and, where it is known, what to do, in lower case
// and without a stack.
type Printer struct {
	// Out takes results; Err takes errors, progress and the log, so that a script can read the results.
	Out, Err io.Writer
}

// Failure prints the error of a command that could not run.
func (p Printer) Failure(err error) {
	_, _ = fmt.Fprintf(p.Err, "evictgate: %s\n", strings.TrimSpace(err.Error()))
}

// Note tells on the side what a user should know, and goes on.
func (p Printer) Note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Err, "evictgate: %s\n", Line(fmt.Sprintf(format, args...)))
}

// Aside prints to Err what is not a result: progress, findings.
func (p Printer) Aside(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Err, format, args...)
}

// Printf prints a part of a result. What may hold anything goes through Line before.
func (p Printer) Printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Out, format, args...)
}

// Structured prints a value as JSON or YAML; it reports false for any other format. What a terminal would
// not show as text is escaped. YAML of a value with such text is written in JSON's style, where it can be.
func (p Printer) Structured(format string, v any) (bool, error) {
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
			_, err = p.Out.Write(block)
			return true, err
		}
	}
	_, err = p.Out.Write(append(escaped(raw, escape), '\n'))
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
		if r != '\n' && (!Shows(r) || (r == utf8.RuneError && size == 1)) {
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

// Table prints rows under a header, in columns.
func (p Printer) Table(header []string, rows [][]string) error {
	_, err := io.WriteString(p.Out, Columns(append([][]string{header}, rows...), 0))
	return err
}
