package opa

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// syntaxProblems says what to write instead of what OPA's parser could not read: at most one problem a
// line, since one slip makes several errors.
func (l *Language) syntaxProblems(f rego.File, err error) rego.Problems {
	var list ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = ast.Errors{one}
	default:
		return l.Problems(err, f.Name)
	}
	lines := strings.Split(string(f.Data), "\n")
	var problems rego.Problems
	known := map[int]bool{} // rows for which there are better words than OPA's
	at := map[int]int{}
	tries := map[int]int{}
	open := sync.OnceValue(func() (p rego.Problem) { // once for all errors of a file
		p.Row, p.Col, p.Message = unbalanced(string(f.Data))
		return p
	})
	for _, e := range list {
		if e.Location != nil {
			if tries[e.Location.Row]++; tries[e.Location.Row] > maxTries || len(problems) > 10*rego.MaxProblems {
				continue
			}
		}
		p, better := l.syntaxProblem(e, f, lines, open)
		i, again := at[p.Row]
		switch {
		case !again:
			at[p.Row] = len(problems)
			problems = append(problems, p)
		case better && !known[p.Row]:
			problems[i] = p
		}
		known[p.Row] = known[p.Row] || better
	}
	return rego.AtMost(problems)
}

// maxTries is for how many errors of a line better words are looked for.
const maxTries = 10

func (l *Language) syntaxProblem(e *ast.Error, f rego.File, lines []string, open func() rego.Problem) (p rego.Problem, better bool) {
	p = l.problemOf(e, f.Name)
	p.Message = rego.OneLine(p.Message)
	line := ""
	if p.Row > 0 && p.Row <= len(lines) {
		line = blankStrings(rego.CutLine(lines[p.Row-1]))
	}
	if m := rego.YAMLLine.FindStringIndex(e.Message); strings.HasPrefix(e.Message, "yaml: ") {
		text := strings.TrimPrefix(e.Message, "yaml: ")
		if m != nil {
			text = e.Message[m[1]:]
		}
		p.Message = "METADATA is not YAML: " + rego.OneLine(text) // OPA's hint is in a line of its own
		return p, true
	}
	if strings.HasPrefix(e.Message, "unexpected eof") || strings.HasPrefix(e.Message, "unexpected }") ||
		strings.HasPrefix(e.Message, "unexpected ]") || strings.HasPrefix(e.Message, "unexpected )") ||
		strings.HasPrefix(e.Message, "non-terminated") || strings.Contains(e.Message, "eof token") {
		if u := open(); u.Message != "" {
			p.Row, p.Col, p.Message = u.Row, u.Col, u.Message
			return p, true
		}
	}
	for _, s := range slips {
		if strings.Contains(e.Message, s.opa) && s.line.MatchString(line) {
			p.Message = s.ours
			if m := s.line.FindStringSubmatchIndex(line); len(m) > 2 {
				p.Col = m[len(m)-2] + 1
			}
			return p, true
		}
	}
	return p, false
}

// blankStrings is a line without what stands in its strings and in its comment.
func blankStrings(line string) string {
	line = stringLiteral.ReplaceAllStringFunc(line, func(s string) string { return `"` + strings.Repeat(" ", len(s)-2) + `"` })
	code, _, _ := strings.Cut(line, "#")
	return code
}

var stringLiteral = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)

// slips are what people write out of habit: what OPA says, how the line looks, and what to write. The
// last group of the line, when there is one, is the place.
var slips = []struct {
	opa  string
	line *regexp.Regexp
	ours string
}{
	{"keyword is required", regexp.MustCompile(`^\s*(?:deny|delay|warn)\[`), "this is Rego of version 0; write `deny contains {\"reason\": …} if { … }`"},
	{"`if` keyword is required", regexp.MustCompile(``), "`if` is missing before the body; write `… if { … }`"},
	{"`contains` keyword is required", regexp.MustCompile(``), "`contains` is missing; write `deny contains {\"reason\": …} if { … }`"},
	{"", regexp.MustCompile(`^\s*package\s+\S*?(-)`), "a package cannot have a dash in its name; write an underscore"},
	{"package expected", regexp.MustCompile(``), "the file must begin with its package: `package eviction.<id>`"},
	{"", regexp.MustCompile(`(&&)`), "Rego has no &&; write each condition in a line of its own: all of a body must hold"},
	{"", regexp.MustCompile(`^[^"]*("[^"]*"[^"]*)*(\|\|)`), "Rego has no ||; write the rule twice, once for each condition, or ask with `… in {…}`"},
	{"illegal ! character", regexp.MustCompile(`(!)`), "Rego has no !; write `not …`"},
	{"illegal token", regexp.MustCompile(`(')`), `a string stands in double quotes, "…"`},
	{"", regexp.MustCompile(`\s(and)\s`), "write each condition in a line of its own instead of `and`: all of a body must hold"},
	{"", regexp.MustCompile(`\s(or)\s`), "write the rule twice, once for each condition, instead of `or`, or ask with `… in {…}`"},
	{"unexpected else", regexp.MustCompile(``), "`else` follows the closing } of the body, in the same line"},
	{"non-terminated object", regexp.MustCompile(``), "a comma or a closing } is missing in the object"},
	{"non-terminated array", regexp.MustCompile(``), "a comma or a closing ] is missing in the list"},
	{"non-terminated set", regexp.MustCompile(``), "a comma or a closing } is missing in the set"},
	{"non-terminated string", regexp.MustCompile(``), "this string is not closed before the end of its line"},
	{"unexpected }", regexp.MustCompile(``), "the expression before this } is not finished"},
	{"empty module", regexp.MustCompile(``), "the file is empty; it must begin with its package: `package eviction.<id>`"},
}

// unbalanced finds a bracket without its other half, by row and column.
func unbalanced(text string) (row, col int, message string) {
	type bracket struct {
		r        rune
		row, col int
	}
	var open []bracket
	closes := map[rune]rune{'}': '{', ']': '[', ')': '('}
	row, col = 1, 0
	var quote rune
	comment, escaped := false, false
	for _, r := range text {
		col++
		switch {
		case r == '\n':
			row, col, comment = row+1, 0, false
			if quote == '"' {
				quote = 0 // a string that is not closed is the scanner's to tell
			}
		case comment:
		case quote != 0:
			if r == quote && !escaped {
				quote = 0
			}
			escaped = r == '\\' && !escaped && quote == '"'
		case r == '#':
			comment = true
		case r == '"' || r == '`':
			quote = r
		case strings.ContainsRune("{[(", r):
			open = append(open, bracket{r, row, col})
		case closes[r] != 0:
			if len(open) == 0 {
				return row, col, fmt.Sprintf("this %c closes nothing; leave it out", r)
			}
			last := open[len(open)-1]
			if last.r != closes[r] {
				return row, col, fmt.Sprintf("this %c does not close the %c of line %d", r, last.r, last.row)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) == 0 {
		return 0, 0, ""
	}
	last := open[len(open)-1]
	return last.row, last.col, fmt.Sprintf("this %c is never closed", last.r)
}
