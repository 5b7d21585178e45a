package main

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// atMost cuts what nobody would read in a terminal.
func atMost(text string, runes int) string {
	if n := utf8.RuneCountInString(text); n > runes {
		return fmt.Sprintf("%s… (%d characters)", string([]rune(text)[:runes]), n)
	}
	return text
}

// columnGap stands between the columns of a table; less of it in a terminal that is too narrow.
const columnGap = 3

func gapFor(widths []int, width int) int {
	gap := columnGap
	for gap > 1 && width > 0 && tableWidth(widths, gap) > width {
		gap--
	}
	return gap
}

// tableWidth is that of a table with its last column cut.
func tableWidth(widths []int, gap int) int {
	sum := 0
	for j, w := range widths {
		if j == len(widths)-1 {
			return sum + min(w, readable)
		}
		sum += w + gap
	}
	return sum
}

// columns lays out a table. In a terminal the last column is cut at its width, if a readable part is left.
func columns(rows [][]string, width int) string {
	var widths []int
	cells := make([][]string, len(rows))
	for i, row := range rows {
		cells[i] = make([]string, len(row))
		for j, cell := range row {
			cells[i][j] = render.Line(cell)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], runewidth.StringWidth(cells[i][j]))
		}
	}
	var b strings.Builder
	gap := gapFor(widths, width)
	for _, row := range cells {
		b.WriteString(strings.TrimRight(line(row, widths, gap, width), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// readable is how many columns of a message are worth to be shown.
const readable = 20

func line(row []string, widths []int, gap, width int) string {
	var b strings.Builder
	used := 0
	for j, cell := range row {
		if j == len(row)-1 {
			if left := width - used; left >= readable {
				cell = render.Cut(cell, left)
			}
			b.WriteString(cell)
			break
		}
		b.WriteString(runewidth.FillRight(cell, widths[j]+gap))
		used += widths[j] + gap
	}
	return b.String()
}

// wrap breaks a line at spaces, so that it fits a terminal with each line indented; 0 is as wide as need be.
func wrap(text string, width int, indent, hanging string) string {
	if width <= 0 {
		return indent + text + "\n"
	}
	var b strings.Builder
	current := indent
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && runewidth.StringWidth(current)+1+runewidth.StringWidth(word) > width {
			b.WriteString(current + "\n")
			current, empty = hanging, true
		}
		if !empty {
			current += " "
		}
		current, empty = current+word, false
	}
	return b.String() + current + "\n"
}

// say prints a line, whatever is in the arguments.
func (p printer) say(indent int, format string, args ...any) {
	space := strings.Repeat(" ", indent)
	p.printf("%s", wrap(render.Line(fmt.Sprintf(format, args...)), p.width(), space, space))
}

// point prints a line that begins with a mark, under which its next lines are indented.
func (p printer) point(indent int, mark, format string, args ...any) {
	space := strings.Repeat(" ", indent)
	p.printf("%s", wrap(render.Line(fmt.Sprintf(format, args...)), p.width(), space+mark+" ", space+strings.Repeat(" ", len(mark)+1)))
}

// width is that of the terminal that results go to; 0 when they go elsewhere.
func (p printer) width() int {
	file, ok := p.out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	n, _, _ := term.GetSize(int(file.Fd()))
	return n
}

// unicodeLocale reports whether the user's locale writes UTF-8.
func unicodeLocale() bool {
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}

// clock writes times for people.
type clock struct{ review.Clock }

// at is a time in short: the date stands there when it is not today, and the year when it is not this one.
func (c clock) at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	layout := "01-02 15:04:05"
	now := c.Now.In(c.Zone)
	switch t = t.In(c.Zone); {
	case t.Year() != now.Year():
		layout = "2006-01-02 15:04:05"
	case t.YearDay() == now.YearDay():
		layout = "15:04:05"
	}
	if c.Zone == time.UTC {
		layout += "Z"
	}
	return t.Format(layout)
}

// age is how long ago a time is.
func (c clock) age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(max(0, c.Now.Sub(t)))
}

// length is how long something takes; whole minutes and hours without what is zero.
func length(d time.Duration) string {
	switch {
	case d > 0 && d%time.Hour == 0:
		return strings.TrimSuffix(d.String(), "0m0s")
	case d > 0 && d%time.Minute == 0:
		return strings.TrimSuffix(d.String(), "0s")
	}
	return duration.HumanDuration(d)
}

// ago is a time, and its age.
func (c clock) ago(t time.Time) string { return fmt.Sprintf("%s (%s ago)", c.at(t), c.age(t)) }

// between is a span of time.
func (c clock) between(first, last time.Time) string {
	if c.at(first) == c.at(last) {
		return "at " + c.at(first)
	}
	return fmt.Sprintf("from %s to %s", c.at(first), c.at(last))
}
