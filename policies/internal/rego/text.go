package rego

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// IsIdentifier reports whether a name can stand in Rego without quotes.
func IsIdentifier(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0
}

// OneLine makes text fit for a message or a warning: no control characters, no outer space. The API
// server silently drops a warning that holds a control character.
func OneLine(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return strings.TrimSpace(s)
	}
	spaced := strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(spaced), " ")
}

func isControl(r rune) bool {
	return r < ' ' || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029'
}

// MaxSource is how much is shown of an expression, in runes.
const MaxSource = 160

// Shorten cuts text that is too long to read.
func Shorten(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// maxLine is how much of a source line is looked at or told, in bytes.
const maxLine = 400

// CutLine shortens a line that nobody would read.
func CutLine(line string) string {
	if len(line) <= maxLine {
		return line
	}
	return strings.ToValidUTF8(line[:maxLine], "") + "…"
}

// SizeText is a number of bytes as people write it.
func SizeText(bytes int) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%d MiB", (bytes+1<<19)>>20)
	case bytes >= 1<<10:
		return fmt.Sprintf("%d KiB", (bytes+1<<9)>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// SplitPath takes spec.match.excludes[0] apart.
func SplitPath(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
}

// YAMLLine is how an error of the YAML reader names a line.
var YAMLLine = regexp.MustCompile(`line ([0-9]+): `)

// PlainJSON turns what a YAML reader makes into plain JSON values; nil when it cannot.
func PlainJSON(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var plain any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // 1000000 must not become 1e+06
	if decoder.Decode(&plain) != nil {
		return nil
	}
	return plain
}
