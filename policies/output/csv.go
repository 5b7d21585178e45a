package output

import (
	"encoding/csv"
	"io"
	"strings"
)

// WriteCSV writes lines of CSV for spreadsheets: each cell is one line of visible text, and one that a spreadsheet would
// take for a formula begins with an apostrophe, as does one that begins with an apostrophe itself
// (https://owasp.org/www-community/attacks/CSV_Injection).
func WriteCSV(w io.Writer, lines [][]string) error {
	out := csv.NewWriter(w)
	for _, line := range lines {
		cells := make([]string, len(line))
		for i, cell := range line {
			cells[i] = cellOf(cell)
		}
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func cellOf(text string) string {
	line := Line(text)
	if text != "" && strings.ContainsRune("=+-@\t\r\n'", rune(text[0])) {
		return "'" + line
	}
	return line
}
