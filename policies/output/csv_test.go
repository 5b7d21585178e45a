package output

import (
	"bytes"
	"encoding/csv"
	"testing"
)

func TestCSVCells(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "": "", "=HYPERLINK(1)": "'=HYPERLINK(1)", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "' =1", "\r=1": "' =1", "\n=1": "' =1",
		"a\nb": "a b", "\x1b[31m": `\x1b[31m`, "1-2": "1-2", "'quoted": "''quoted", `a "b", c`: `a "b", c`,
	} {
		var out bytes.Buffer
		if err := WriteCSV(&out, [][]string{{"x", text}}); err != nil {
			t.Fatal(err)
		}
		lines, err := csv.NewReader(&out).ReadAll()
		if err != nil || lines[0][1] != want {
			t.Errorf("%q became %q (%v), want %q", text, lines, err, want)
		}
	}
}
