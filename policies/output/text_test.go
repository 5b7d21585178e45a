package output

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSafe(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"plain text":               {"Deployment shop/web", "Deployment shop/web"},
		"other alphabets":          {"Größe, 大きさ, размер 🙂", "Größe, 大きさ, размер 🙂"},
		"colours":                  {"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		"an 8-bit escape":          {"a\u009b31mb", `a\u009b31mb`},
		"the title of the window":  {"\x1b]0;owned\x07", `\x1b]0;owned\a`},
		"backspace and delete":     {"a\bb\x7fc", `a\bb\x7fc`},
		"new lines":                {"a\r\nb\tc\u2028d", "a  b c d"},
		"a writing direction":      {"user\u202egnp.exe", `user\u202egnp.exe`},
		"what is not seen":         {"ad\u200bmin\ufeff\u00ad\u3164", `ad\u200bmin\ufeff\u00ad\u3164`},
		"no UTF-8":                 {"a\xff\xc3(", `a\xff\xc3(`},
		"the replacement itself":   {"a\uFFFDb", "a\uFFFDb"},
		"an accent":                {"e\u0301", "e\u0301"},
		"accents that run over":    {"e" + strings.Repeat("\u0301", 6), "e" + strings.Repeat("\u0301", 4) + `\u0301\u0301`},
		"another plane":            {"\U000E0041", `\U000e0041`},
		"a space of another width": {"a\u00a0b", "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Line(c.text)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
