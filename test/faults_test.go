package test

import (
	"os"
	"strings"
	"testing"
)

const (
	faultsBegin = "<!-- faults: the first columns of docs/faults.md, by make faults -->\n"
	faultsEnd   = "<!-- faults end -->"
)

// TestTheFailureTable holds docs/operate.md to the table that the fault runs wrote.
func TestTheFailureTable(t *testing.T) {
	const file = "../docs/operate.md"
	before, rest, found := strings.Cut(readText(t, file), faultsBegin)
	table, after, ended := strings.Cut(rest, faultsEnd)
	if !found || !ended {
		t.Fatalf("%s has no table between %q and %q", file, strings.TrimSpace(faultsBegin), faultsEnd)
	}
	want := firstColumns(readText(t, "../docs/faults.md"), 4)
	if *update {
		if err := os.WriteFile(file, []byte(before+faultsBegin+want+faultsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("the failure table of %s is not that of docs/faults.md; go test ./test -run TestTheFailureTable -update writes it:\n%s", file, want)
	}
}

// firstColumns are the first n columns of the table of a page.
func firstColumns(page string, n int) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "|") {
			b.WriteString(strings.Join(cells[:n+1], "|") + "|\n")
		}
	}
	return b.String()
}
