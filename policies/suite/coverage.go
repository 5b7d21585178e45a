package suite

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
)

// Coverage says which lines of policies were evaluated.
type Coverage struct {
	// Percent is of all lines that can be evaluated.
	Percent float64        `json:"percent"`
	Files   []FileCoverage `json:"files"`
}

// FileCoverage is the coverage of one file.
type FileCoverage struct {
	File       string  `json:"file"`
	Percent    float64 `json:"percent"`
	Covered    int     `json:"covered_lines"`
	NotCovered int     `json:"not_covered_lines"`
	// Missing are the lines that were not evaluated, for example "12" or "14-16".
	Missing []string `json:"missing"`
}

// coverageOf reports the coverage of modules, by file.
func coverageOf(c *cover.Cover, modules map[string]*ast.Module) *Coverage {
	report := c.Report(modules)
	total := &Coverage{}
	covered, all := 0, 0
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		f := report.Files[file]
		if f == nil || f.CoveredLines+f.NotCoveredLines == 0 {
			continue
		}
		covered, all = covered+f.CoveredLines, all+f.CoveredLines+f.NotCoveredLines
		total.Files = append(total.Files, FileCoverage{
			File: file, Percent: percent(f.CoveredLines, f.CoveredLines+f.NotCoveredLines),
			Covered: f.CoveredLines, NotCovered: f.NotCoveredLines, Missing: missingLines(f.NotCovered),
		})
	}
	total.Percent = percent(covered, all)
	return total
}

func percent(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// missingLines joins ranges that touch.
func missingLines(ranges []cover.Range) []string {
	var list []string
	for i := 0; i < len(ranges); {
		first, last := ranges[i].Start.Row, ranges[i].End.Row
		for i++; i < len(ranges) && ranges[i].Start.Row <= last+1; i++ {
			last = max(last, ranges[i].End.Row)
		}
		if first == last {
			list = append(list, fmt.Sprint(first))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", first, last))
		}
	}
	return list
}
