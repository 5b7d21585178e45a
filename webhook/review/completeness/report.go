// Package completeness proves that no decision is missing: every decision has its answer in the audit log of the API server,
// and every answer its decision, over the time that both cover. It reads both into a store.
package completeness

import (
	"context"
	"slices"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Report says what an import found, and whether it is complete.
type Report struct {
	Files []File `json:"files"`
	// Read sums up the files.
	Read apilog.Counts `json:"read"`
	// Decisions and Answers say what of it the store did not have yet.
	Decisions Count `json:"decisions"`
	Answers   Count `json:"answers"`
	// Problems are the first lines that could not be read, as FILE:LINE: why.
	Problems []string `json:"problems"`
	Covered  Covered  `json:"covered"`
	// Completeness is of what the store has, or has between --since and --until. What lacks its counterpart
	// counts between its own since and until, which both cover.
	Completeness store.Completeness `json:"completeness"`
	// NotCompared lack theirs outside of that time.
	NotCompared NotCompared `json:"not_compared"`
}

// File is a file that was read.
type File struct {
	Name string `json:"name"`
	apilog.Counts
}

// Count says how much of something the store did not have yet, and how much it had.
type Count struct {
	New   int `json:"new"`
	Known int `json:"known"`
}

func (c *Count) add(a store.Added) { c.New, c.Known = c.New+a.New, c.Known+a.Known }

// Covered says from when to when there are decisions, and what the audit log covers.
type Covered struct {
	Decisions store.Span `json:"decisions"`
	AuditLog  store.Span `json:"audit_log"`
}

// NotCompared are the decisions and answers outside of the time that both cover, without their counterpart.
type NotCompared struct {
	Decisions int `json:"decisions"`
	Answers   int `json:"answers"`
}

// NotSeen counts the evictions that did not pass us.
func (r Report) NotSeen() int {
	return r.Completeness.Passages[record.FailedOpen] + r.Completeness.Passages[record.Unseen]
}

// Unread counts the lines that may hold something and could not be read.
func (r Report) Unread() int64 { return r.Read.Malformed + r.Read.TooLong }

// Found reports whether an eviction did not pass us, something has no counterpart, or something was not read, so that nobody
// knows.
func (r Report) Found() bool {
	return r.NotSeen() > 0 || !r.Completeness.Complete() || r.Unread() > 0
}

// Store is what an import needs of a store.
type Store interface {
	Add(ctx context.Context, records []record.Record) (store.Added, error)
	AddAnswers(ctx context.Context, answers []record.Answer) (store.Added, error)
	Covered(ctx context.Context) (decisions, answers store.Span, err error)
	Completeness(ctx context.Context, since, until time.Time) (store.Completeness, error)
}

// Compare fills in what is complete. What has its counterpart counts wherever it is; what has none counts from
// the first decision and the first audit event, whichever is later, up to the last audit event. An answer of an
// earlier time was decided before decisions were kept, and a decision of a later time is not answered yet.
func (r *Report) Compare(ctx context.Context, in Store, since, until time.Time) error {
	decisions, answers, err := in.Covered(ctx)
	if err != nil {
		return err
	}
	answers = answers.And(store.Span{From: r.Read.From, Until: r.Read.Until})
	r.Covered = Covered{Decisions: decisions, AuditLog: answers}
	if r.Completeness, err = in.Completeness(ctx, since, until); err != nil {
		return err
	}
	both := store.Completeness{WithoutAnswer: []store.Row{}, WithoutDecision: []record.Answer{}}
	first, last := latest(since, decisions.From, answers.From), answers.Until.Add(time.Microsecond)
	if !until.IsZero() && until.Before(last) {
		last = until
	}
	if !decisions.From.IsZero() && !answers.From.IsZero() && first.Before(last) {
		if both, err = in.Completeness(ctx, first, last); err != nil {
			return err
		}
	}
	r.restrict(both)
	return nil
}

// restrict takes what is missing outside of the time that both cover out of the count.
func (r *Report) restrict(both store.Completeness) {
	c := &r.Completeness
	r.NotCompared = NotCompared{Decisions: c.MissingAnswers - both.MissingAnswers, Answers: c.MissingDecisions - both.MissingDecisions}
	c.Since, c.Until = both.Since, both.Until
	c.Decisions -= r.NotCompared.Decisions
	c.Answers -= r.NotCompared.Answers
	c.MissingAnswers, c.WithoutAnswer = both.MissingAnswers, both.WithoutAnswer
	c.MissingDecisions, c.WithoutDecision = both.MissingDecisions, both.WithoutDecision
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}
