package output

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

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

// Columns lays out a table. In a terminal the last column is cut at its width, if a readable part is left.
func Columns(rows [][]string, width int) string {
	var widths []int
	cells := make([][]string, len(rows))
	for i, row := range rows {
		cells[i] = make([]string, len(row))
		for j, cell := range row {
			cells[i][j] = Line(cell)
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
				cell = Cut(cell, left)
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

// Say prints a line, whatever is in the arguments.
func (p Printer) Say(indent int, format string, args ...any) {
	space := strings.Repeat(" ", indent)
	p.Printf("%s", wrap(Line(fmt.Sprintf(format, args...)), p.Width(), space, space))
}

// Point prints a line that begins with a mark, under which its next lines are indented.
func (p Printer) Point(indent int, mark, format string, args ...any) {
	space := strings.Repeat(" ", indent)
	p.Printf("%s", wrap(Line(fmt.Sprintf(format, args...)), p.Width(), space+mark+" ", space+strings.Repeat(" ", len(mark)+1)))
}

// Numbered prints what to try, one after the other.
func (p Printer) Numbered(indent int, list []string) {
	for i, text := range list {
		p.Point(indent, fmt.Sprintf("%d.", i+1), "%s", text)
	}
}

// Heading begins a part of a result.
func (p Printer) Heading(text string) { p.Printf("\n%s\n", text) }

// CutTable prints rows, the first being the header, and cuts the last column in a terminal.
func (p Printer) CutTable(rows [][]string) {
	p.Printf("%s", Columns(rows, p.Width()))
}

// Width is that of the terminal that results go to; 0 when they go elsewhere.
func (p Printer) Width() int {
	file, ok := p.Out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	n, _, _ := term.GetSize(int(file.Fd()))
	return n
}

// UnicodeLocale reports whether the user's locale writes UTF-8.
func UnicodeLocale() bool {
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}
