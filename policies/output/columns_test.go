package output

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies/output/outputtest"
)

func TestSafeTextShowsAsItStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := outputtest.AnyText().Draw(t, "text")
		got := Line(text)
		if !outputtest.Shows(got) || strings.Contains(got, "\n") {
			t.Fatalf("%q became %q", text, got)
		}
		if again := Line(got); again != got {
			t.Fatalf("%q became %q, and then %q", text, got, again)
		}
	})
}

// Whatever a value holds, its JSON and YAML show as they stand, and mean what they meant.
func TestStructuredOutputShowsAsItStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{"a": strings.ToValidUTF8(outputtest.AnyText().Draw(t, "text"), "?")}
		for _, format := range []string{"json", "yaml"} {
			var out bytes.Buffer
			if done, err := (Printer{Out: &out}).Structured(format, want); !done || err != nil {
				t.Fatal(done, err)
			}
			var got map[string]string
			unmarshal := json.Unmarshal
			if format == "yaml" {
				unmarshal = func(raw []byte, v any) error { return yaml.Unmarshal(raw, v) }
			}
			if err := unmarshal(out.Bytes(), &got); err != nil || !outputtest.Shows(out.String()) {
				t.Fatalf("%s: %v: %q", format, err, out.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: -want +got:\n%s", format, diff)
			}
		}
	})
}

func TestColumns(t *testing.T) {
	rows := [][]string{{"NAME", "N", "WHY"}, {"web", "10", "a long reason that goes on"}, {"大きい", "1", "-"}, {"a\nb", "2", ""}}
	for name, c := range map[string]struct {
		width int
		want  string
	}{
		"as wide as need be": {0, `
NAME     N    WHY
web      10   a long reason that goes on
大きい   1    -
a b      2
`},
		"the last column is cut": {35, `
NAME     N    WHY
web      10   a long reason that g…
大きい   1    -
a b      2
`},
		"too narrow for any reason": {25, `
NAME   N  WHY
web    10 a long reason that goes on
大きい 1  -
a b    2
`},
		"the gaps give way": {30, `
NAME   N  WHY
web    10 a long reason that …
大きい 1  -
a b    2
`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, "\n"+Columns(rows, c.width)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	const text = "one two  three four"
	for name, c := range map[string]struct {
		text  string
		width int
		want  string
	}{
		"no terminal":                    {text, 0, "- one two  three four\n"},
		"a narrow one":                   {text, 11, "- one two\n  three\n  four\n"},
		"a word that is too long":        {"a " + strings.Repeat("b", 12), 8, "- a\n  bbbbbbbbbbbb\n"},
		"letters that are twice as wide": {"大大 大大 大大", 12, "- 大大 大大\n  大大\n"},
		"nothing":                        {"", 10, "- \n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, wrap(c.text, c.width, "- ", "  ")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLocale(t *testing.T) {
	for name, c := range map[string]struct {
		all, ctype, lang string
		want             bool
	}{
		"UTF-8":                   {"", "", "de_DE.UTF-8", true},
		"utf8":                    {"", "C.utf8", "", true},
		"LC_ALL has precedence":   {"C", "", "en_US.UTF-8", false},
		"LC_CTYPE comes second":   {"", "POSIX", "en_US.UTF-8", false},
		"another encoding":        {"", "", "ja_JP.eucJP", false},
		"nothing is the C locale": {"", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LC_ALL", c.all)
			t.Setenv("LC_CTYPE", c.ctype)
			t.Setenv("LANG", c.lang)
			if got := UnicodeLocale(); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
