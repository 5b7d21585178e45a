// Package outputtest makes texts that terminals dislike, and says whether what was printed of them shows.
package outputtest

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// AnyText is rich in what terminals dislike.
func AnyText() *rapid.Generator[string] {
	piece := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[2J", "\u202e", "\u0085", "\u2028", "\n", "\t", "\xff", "\u009b", "大", "\u200b", "e\u0301"}))
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
	})
}

// Shows reports whether a terminal would show all of a text as it stands.
func Shows(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool {
		return r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Cf, r))
	}) < 0
}
