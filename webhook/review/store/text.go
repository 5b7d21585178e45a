package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
)

// marshal is a value as the JSON that a row has, without the escapes that only HTML needs. PostgreSQL's JSONB takes
// neither NUL nor half of a surrogate pair: in place of each stands U+FFFD, in SQLite as well. Huge numbers are texts.
func marshal(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	cleanEscapes(text)
	return string(quoteHuge(text)), nil
}

// huge is the exponent of a number that JSONB would print with all its digits, a hundred thousand for ten bytes.
var huge = regexp.MustCompile(`[0-9][eE][+-]?[0-9]{4}`)

// quoteHuge makes texts of the numbers in JSON whose exponents have more than three digits, which no float64 has.
func quoteHuge(text []byte) []byte {
	if !huge.Match(text) {
		return text
	}
	var quoted []byte
	for i := 0; i < len(text); {
		n := 1
		switch c := text[i]; {
		case c == '"':
			n = stringLength(text[i:])
		case c == '-' || '0' <= c && c <= '9':
			n = len(text[i:]) - len(bytes.TrimLeft(text[i:], "+-.0123456789eE"))
		}
		token := text[i : i+n]
		if token[0] != '"' && huge.Match(token) {
			token = strconv.AppendQuote(nil, string(token))
		}
		quoted, i = append(quoted, token...), i+n
	}
	return quoted
}

// stringLength is the length of the string that JSON begins with, its quotes included.
func stringLength(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// cleanEscapes replaces in JSON the escapes of what is not a character.
func cleanEscapes(text []byte) {
	for i := 0; ; {
		next := bytes.IndexByte(text[i:], '\\')
		if next < 0 {
			return
		}
		i += next
		unit, ok := escaped(text[i:])
		switch {
		case !ok:
			i += 2
			continue
		case unit == 0:
			copy(text[i:], `\ufffd`)
		case utf16.IsSurrogate(unit):
			if low, ok := escaped(text[i+6:]); ok && utf16.DecodeRune(unit, low) != '\uFFFD' {
				i += 6
			} else {
				copy(text[i:], `\ufffd`)
			}
		}
		i += 6
	}
}

// escaped is the UTF-16 unit of an escape \uXXXX at the beginning of a text.
func escaped(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(unit), err == nil
}

// maxText bounds, in bytes, what texts are found by: an index of PostgreSQL takes no long ones.
const maxText = 300

// clean makes a text that both databases take as a key: PostgreSQL has neither NUL nor invalid UTF-8. A long
// one is cut, and ends in a sum of the whole.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:maxText-20], "") + "…" + hex.EncodeToString(sum[:8])
}
