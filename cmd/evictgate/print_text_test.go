package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// anyText is rich in what terminals dislike.
func anyText() *rapid.Generator[string] {
	piece := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[2J", "\u202e", "\u0085", "\u2028", "\n", "\t", "\xff", "\u009b", "大", "\u200b", "e\u0301"}))
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
	})
}

// shows reports whether a terminal would show all of a text as it stands.
func shows(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool {
		return r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Cf, r))
	}) < 0
}

func TestSafeTextShowsAsItStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyText().Draw(t, "text")
		got := render.Line(text)
		if !shows(got) || strings.Contains(got, "\n") {
			t.Fatalf("%q became %q", text, got)
		}
		if again := render.Line(got); again != got {
			t.Fatalf("%q became %q, and then %q", text, got, again)
		}
	})
}

// Whatever a value holds, its JSON and YAML show as they stand, and mean what they meant.
func TestStructuredOutputShowsAsItStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{"a": strings.ToValidUTF8(anyText().Draw(t, "text"), "?")}
		for _, format := range []string{"json", "yaml"} {
			var out bytes.Buffer
			if done, err := (printer{out: &out}).structured(format, want); !done || err != nil {
				t.Fatal(done, err)
			}
			var got map[string]string
			unmarshal := json.Unmarshal
			if format == "yaml" {
				unmarshal = func(raw []byte, v any) error { return yaml.Unmarshal(raw, v) }
			}
			if err := unmarshal(out.Bytes(), &got); err != nil || !shows(out.String()) {
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
			if diff := cmp.Diff(c.want, "\n"+columns(rows, c.width)); diff != "" {
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

func TestClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	local, utc := clock{review.Clock{Now: now, Zone: berlin}}, clock{review.Clock{Now: now, Zone: time.UTC}}
	for name, c := range map[string]struct{ got, want string }{
		"local":                {local.at(now.Add(-time.Hour)), "03:00:00"},
		"UTC":                  {utc.at(now.Add(-time.Hour)), "02:00:00Z"},
		"another day":          {utc.at(now.Add(-4 * time.Hour)), "11-22 23:00:00Z"},
		"today in Berlin":      {local.at(now.Add(-4 * time.Hour)), "00:00:00"},
		"another year":         {utc.at(now.AddDate(-1, 0, 0)), "2025-11-23 03:00:00Z"},
		"not known":            {utc.at(time.Time{}), "-"},
		"ago":                  {utc.ago(now.Add(-90 * time.Minute)), "01:30:00Z (90m ago)"},
		"a clock that is late": {utc.age(now.Add(time.Minute)), "0s"},
		"an age not known":     {utc.age(time.Time{}), "-"},
		"one moment":           {utc.between(now, now), "at 03:00:00Z"},
		"a span":               {utc.between(now.Add(-time.Minute), now), "from 02:59:00Z to 03:00:00Z"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
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
			if got := unicodeLocale(); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
