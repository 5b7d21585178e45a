package main

import (
	"encoding/csv"
	"strings"
	"time"
)

// csv prints rows under a header, for spreadsheets: see csvCell.
func (p printer) csv(header []string, rows [][]string) error {
	w := csv.NewWriter(p.out)
	if err := w.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = csvCell(cell)
		}
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// csvCell is a text on one line that no spreadsheet runs as a formula
// (https://owasp.org/www-community/attacks/CSV_Injection).
func csvCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + safe(text)
	}
	return safe(text)
}

// csvTime is a time in data; empty when it is not known.
func csvTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func csvList(list []string) string { return strings.Join(list, ";") }
