package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/completeness"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Importing tells how far an import is.
func Importing(p output.Printer, c apilog.Counts, took time.Duration) {
	p.Aside("import: %d lines, %s, %s/s, %d answers, %d decisions\n",
		c.Lines, bytesText(c.Bytes), bytesText(int64(float64(c.Bytes)/took.Seconds())), c.Answers, c.Decisions)
}

// date writes times in full, to the second: a proof is kept.
type date struct{ zone *time.Location }

func (d date) at(t time.Time) string {
	if d.zone == time.UTC {
		return t.UTC().Format("2006-01-02 15:04:05Z")
	}
	return t.In(d.zone).Format("2006-01-02 15:04:05")
}

func (d date) between(since, until time.Time) string {
	return fmt.Sprintf("from %s to %s", d.at(since), d.at(until))
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// Import is what an import found, and how it is told.
type Import struct {
	completeness.Report
	// Zone is that of its times; data has them in UTC.
	Zone *time.Location
	// NothingRead leaves out what was in files, where there were none.
	NothingRead bool
}

// Print prints what was imported, and whether it is complete.
func (r Import) Print(to output.Printer, format string) error {
	p, in := printer{to}, date{r.Zone}
	if done, err := p.Structured(format, r.Report); done {
		return err
	}
	if !r.NothingRead {
		if err := p.read(r.Report); err != nil {
			return err
		}
	}
	if err := p.passages(r.Report); err != nil {
		return err
	}
	if err := p.notSeen(in, r.Report); err != nil {
		return err
	}
	return p.compared(in, r.Report)
}

// read prints what was in the files.
func (p printer) read(r completeness.Report) error {
	p.Say(0, "%d %s, %d %s, %s:", len(r.Files), output.Plural("file", len(r.Files)), r.Read.Lines, output.Plural("line", int(r.Read.Lines)), bytesText(r.Read.Bytes))
	rows := [][]string{
		{"decisions", strconv.Itoa(r.Decisions.New), strconv.Itoa(r.Decisions.Known)},
		{"answers of the API server", strconv.Itoa(r.Answers.New), strconv.Itoa(r.Answers.Known)},
	}
	if err := p.Table([]string{"", "NEW", "KNOWN"}, rows); err != nil {
		return err
	}
	for _, left := range []struct {
		count int64
		why   string
	}{
		{r.Read.Malformed, "not readable, so something may be missing"},
		{r.Read.TooLong, fmt.Sprintf("longer than %d MiB, so something may be missing", record.MaxLine>>20)},
		{r.Read.OutOfScope, "of namespaces that were not asked for"},
		{r.Read.Collections, "deletions of many pods at once, which the log does not name"},
	} {
		if left.count > 0 {
			p.Say(0, "%d %s left out: %s", left.count, output.Plural("line", int(left.count)), left.why)
		}
	}
	for _, problem := range r.Problems {
		p.Say(2, "%s", problem)
	}
	return nil
}

// meanings explain the passages, in the order of the table.
var meanings = []struct {
	passage record.Passage
	text    string
}{
	{record.Decided, "evictgate decided"},
	{record.NotCalled, "refused by the API server before it asks webhooks"},
	{record.FailedClosed, "evictgate could not be asked, and the eviction was refused"},
	{record.FailedOpen, "evictgate could not be asked, and the eviction went on"},
	{record.Unseen, "nothing shows that evictgate was asked"},
}

func (p printer) passages(r completeness.Report) error {
	var rows [][]string
	for _, m := range meanings {
		if n := r.Completeness.Passages[m.passage]; n > 0 {
			rows = append(rows, []string{passageText(m.passage), strconv.Itoa(n), m.text})
		}
	}
	if len(rows) == 0 {
		if r.Unread() == 0 {
			p.Say(0, "The audit log has no eviction.")
		}
		return nil
	}
	p.Printf("\n")
	return p.Table([]string{"PASSAGE", "EVICTIONS", ""}, rows)
}

func passageText(passage record.Passage) string {
	return strings.ReplaceAll(string(passage), "_", " ")
}

func (p printer) notSeen(in date, r completeness.Report) error {
	if r.NotSeen() == 0 {
		return nil
	}
	p.Printf("\n")
	p.Say(0, "Evictions that evictgate did not decide:")
	return p.answers(in, r.Completeness.NotSeen, r.NotSeen(), func(a record.Answer) string { return passageText(a.Passage) })
}

// answers prints answers of the API server, with a fact about each, and how many more there are.
func (p printer) answers(in date, list []record.Answer, total int, fact func(record.Answer) string) error {
	rows := make([][]string, len(list))
	for i, a := range list {
		rows[i] = []string{in.at(a.At), a.User, a.Namespace, a.Pod, apiAnswerText(a), fact(a)}
	}
	if err := p.Table([]string{"TIME", "USER", "NAMESPACE", "POD", "ANSWER", "DECISION"}, rows); err != nil {
		return err
	}
	p.more(len(list), total)
	return nil
}

// apiAnswerText is an answer in a word.
func apiAnswerText(a record.Answer) string {
	text := strconv.Itoa(int(a.Code))
	switch {
	case a.Code == 0:
		text = "none"
	case a.Succeeded() && a.DryRun:
	case a.Succeeded():
		text += " evicted"
	case a.RefusedBy != "":
		text += " refused by " + a.RefusedBy
	default:
		text += " refused"
	}
	if a.DryRun {
		text += " (dry run)"
	}
	return text
}

func (p printer) more(shown, total int) {
	if total > shown {
		p.Say(0, "and %d more", total-shown)
	}
}

// compared prints what has no counterpart.
func (p printer) compared(in date, r completeness.Report) error {
	p.Printf("\n")
	done := r.Completeness
	switch {
	case done.Until.IsZero():
		p.Say(0, "Nothing to compare: %s.", nothingCompared(r.Covered))
	case done.Complete() && r.Unread() > 0:
		p.Say(0, "Not known to be complete %s: each of %d decisions that were read has its answer, and each of %d answers its decision, but %d %s could not be read.",
			in.between(done.Since, done.Until), done.Decisions, done.Answers, r.Unread(), output.Plural("line", int(r.Unread())))
	case done.Complete():
		p.Say(0, "Complete %s: each of %d decisions has its answer, and each of %d answers its decision.", in.between(done.Since, done.Until), done.Decisions, done.Answers)
	default:
		p.Say(0, "NOT complete %s: of %d decisions %d have no answer, of %d answers %d have no decision.",
			in.between(done.Since, done.Until), done.Decisions, done.MissingAnswers, done.Answers, done.MissingDecisions)
	}
	switch n := r.NotCompared; {
	case n.Decisions+n.Answers == 0:
	case done.Until.IsZero():
		p.Say(0, "So %d %s without an answer, and %d %s without a decision, are not judged.", n.Decisions, output.Plural("decision", n.Decisions), n.Answers, output.Plural("answer", n.Answers))
	default:
		p.Say(0, "Outside of that time %d decisions have no answer, and %d answers no decision.", n.Decisions, n.Answers)
	}
	if err := p.unanswered(in, done); err != nil || done.MissingDecisions == 0 {
		return err
	}
	p.Printf("\n")
	p.Say(0, "Answers that name a decision which the store does not have:")
	return p.answers(in, done.WithoutDecision, done.MissingDecisions, func(a record.Answer) string { return a.ReviewUID })
}

func nothingCompared(c completeness.Covered) string {
	switch {
	case c.Decisions.From.IsZero() && c.AuditLog.From.IsZero():
		return "the store has neither decisions nor an audit log"
	case c.Decisions.From.IsZero():
		return "the store has no decisions; import what evictgate serve printed"
	case c.AuditLog.From.IsZero():
		return "the store has no audit log of the API server"
	}
	return "the decisions and the audit log are of different times"
}

func (p printer) unanswered(in date, done store.Completeness) error {
	if done.MissingAnswers == 0 {
		return nil
	}
	p.Printf("\n")
	p.Say(0, "Decisions whose eviction is not in the audit log:")
	rows := make([][]string, len(done.WithoutAnswer))
	for i, r := range done.WithoutAnswer {
		rows[i] = []string{in.at(r.At), r.User, r.Namespace, r.Pod, fmt.Sprintf("%s %d", r.Outcome, r.Code), r.ID}
	}
	if err := p.Table([]string{"TIME", "USER", "NAMESPACE", "POD", "DECIDED", "DECISION"}, rows); err != nil {
		return err
	}
	p.more(len(done.WithoutAnswer), done.MissingAnswers)
	return nil
}
