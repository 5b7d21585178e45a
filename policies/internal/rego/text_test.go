package rego

import "testing"

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", " outer ": "outer", "a\n  b\r\n": "a b", "a\u2028b\u0085c\x7fd": "a b c d", " \n ": "", "two  spaces": "two  spaces", "ä\tö": "ä ö",
	} {
		if got := OneLine(in); got != want {
			t.Errorf("oneLine(%q) is %q, want %q", in, got, want)
		}
	}
}
