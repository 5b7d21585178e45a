package page

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What people wrote, in annotations, messages and names, is shown as text: html/template escapes it, and
// here what a browser would not show, or would show elsewhere, is made visible.

// piece is a part of a text: as it is, or a character that is named because it cannot be seen.
type piece struct {
	Text   string
	Hidden bool
}

const (
	// maxText and maxCell bound what is shown of one text on a page of its own and in a table, in runes;
	// the whole is in the JSON.
	maxText = 8000
	maxCell = 400
	// maxName bounds a name in a table, in runes.
	maxName = 120
	// maxJSON bounds the input that is shown, in bytes.
	maxJSON = 256 << 10
)

// pieces takes a text apart at what is hidden.
func pieces(text string) []piece {
	var out []piece
	start := 0
	for i, r := range text {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(text[i:])
		}
		if !hidden(r, size) {
			continue
		}
		if i > start {
			out = append(out, piece{Text: text[start:i]})
		}
		out = append(out, piece{Text: nameOf(r, text[i:i+size]), Hidden: true})
		start = i + size
	}
	if start < len(text) {
		out = append(out, piece{Text: text[start:]})
	}
	return out
}

// hidden reports whether a rune is invisible or moves others: control characters but line ends and tabs,
// format characters such as the bidirectional overrides, and bytes that are not UTF-8.
func hidden(r rune, size int) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r == utf8.RuneError && size == 1, r == 0x2028, r == 0x2029, r == 0x3164, r == 0x115f, r == 0x1160:
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r)
}

func nameOf(r rune, raw string) string {
	if r == utf8.RuneError && len(raw) == 1 {
		return fmt.Sprintf(`\x%02x`, raw[0])
	}
	return fmt.Sprintf("U+%04X", r)
}

// visible is a text with what is hidden named, for attributes, which hold no marks.
func visible(text string) string {
	var b strings.Builder
	for _, p := range pieces(text) {
		if p.Hidden {
			p.Text = "‹" + p.Text + "›"
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// shownText is a text as it is shown: its first runes.
type shownText struct {
	Pieces []piece
	// Cut is how many runes are left out.
	Cut int
	// Isolate keeps a text that is read from right to left from moving what stands beside it.
	Isolate bool
}

// shown takes the first runes of a text.
func shown(text string, runes int) shownText {
	if len(text) <= runes {
		return shownText{Pieces: pieces(text), Isolate: rightToLeft(text)}
	}
	at, n := len(text), 0
	for i := range text {
		if n == runes {
			at = i
			break
		}
		n++
	}
	return shownText{Pieces: pieces(text[:at]), Cut: utf8.RuneCountInString(text[at:]), Isolate: rightToLeft(text[:at])}
}

// rightToLeft reports whether a text has characters of a script that is read that way.
func rightToLeft(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return r >= 0x590 && r < 0x900 || r >= 0xfb1d && r < 0xfe00 || r >= 0xfe70 && r < 0xff00 || r >= 0x10800 && r < 0x11000 || r >= 0x1e800 && r < 0x1f000
	})
}
