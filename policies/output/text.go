package output

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Line makes a text one line that a terminal and a spreadsheet show as it is: white space becomes a space; what controls
// the terminal, turns the writing direction or is not seen becomes its escape, such as \x1b or \u202e; so do bytes that
// are not UTF-8.
func Line(text string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	marks := 0
	for i, r := range text {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case Shows(r) && marks <= maxMarks:
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// isPlain is the usual case: all of it is ASCII that prints.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// maxMarks bounds the accents on one letter; more of them would run into the lines above.
const maxMarks = 4

// Shows reports whether a rune shows, by itself or as a mark on the one before.
func Shows(r rune) bool {
	return unicode.IsPrint(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// Cut shortens a text to the columns of a terminal.
func Cut(text string, width int) string {
	return runewidth.Truncate(text, width, "…")
}

// OrDash is a text, or - where there is none.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// AtMost cuts what nobody would read in a terminal.
func AtMost(text string, runes int) string {
	if n := utf8.RuneCountInString(text); n > runes {
		return fmt.Sprintf("%s… (%d characters)", string([]rune(text)[:runes]), n)
	}
	return text
}

// Plural is a word for so many.
func Plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// OneOrMany chooses the word for so many, where an s does not do.
func OneOrMany(one, many string, n int) string {
	if n == 1 {
		return one
	}
	return many
}

// ShellQuote quotes what a shell would not take as one word.
func ShellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@,=+", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
