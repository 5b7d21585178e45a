package policies

import (
	"testing"

	"pgregory.net/rapid"
)

func TestAppendStringIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"plain", "tab\t\"quoted\" \\ <", "\x7f\x00", "\u2028é", ""})).Draw(t, "text")
		if got := parsed(t, appendString([]byte("  "), text)); got != text {
			t.Fatalf("%q became %q", text, got)
		}
	})
	if got := string(appendString(nil, "\xff")); got != `"\ufffd"` {
		t.Errorf("what is not UTF-8 became %s", got)
	}
}
