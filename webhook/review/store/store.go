// Package store keeps records for review: which evictions were decided how, what became of the pods, and
// what is stuck. SQLite serves one process, PostgreSQL many replicas; both have the same tables, queries
// and tests.
package store

import (
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// Filter chooses records or episodes; what is empty chooses all.
type Filter struct {
	// Since is inclusive, Until exclusive. Of episodes, those with an attempt in between are chosen.
	Since, Until time.Time
	Namespace    string
	// Pod is a name, or a UID.
	Pod string
	// Workload is Kind/name, or the name alone.
	Workload string
	Node     string
	Evictor  string
	User     string
	// Policy and Budget are those that refused; of records, Policy is also one that only warned, audited
	// or failed. Budget is a name or namespace/name.
	Policy, Budget string
	// Outcome is of records; of episodes it is one that any attempt had. Fate is of episodes.
	Outcome policies.Outcome
	Fate    record.Fate
	// DryRuns are left out of records unless it is set; episodes have none.
	DryRuns bool
	// Episode is an episode's id: the records of it.
	Episode string
}

// Page is a part of a list. Lists are newest first.
type Page struct {
	// Limit is how many; 100 when it is 0.
	Limit int
	// After is the Next of the page before; empty for the first page.
	After string
}

// Row is a record in a list, without its input.
type Row struct {
	ID        string             `json:"decision_id"`
	At        time.Time          `json:"timestamp"`
	Episode   string             `json:"episode"`
	Namespace string             `json:"namespace"`
	Pod       string             `json:"pod"`
	Node      string             `json:"node"`
	Workload  string             `json:"workload"`
	User      string             `json:"user"`
	Evictor   string             `json:"evictor"`
	DryRun    bool               `json:"dry_run"`
	Outcome   policies.Outcome   `json:"outcome"`
	Code      int32              `json:"code"`
	Message   string             `json:"message"`
	Kind      record.BlockerKind `json:"kind,omitempty"`
	Policies  []string           `json:"policies"`
	Budgets   []string           `json:"budgets"`
	Revision  string             `json:"revision"`
	Replica   string             `json:"replica"`
}

// Rows is a page of records. Next is empty on the last page.
type Rows struct {
	Rows []Row  `json:"decisions"`
	Next string `json:"next,omitempty"`
}

// Episodes is a page of episodes, those with the latest attempt first.
type Episodes struct {
	Episodes []record.Episode `json:"episodes"`
	Next     string           `json:"next,omitempty"`
}

// Added says what became of records that were offered.
type Added struct {
	// New were stored; Known were there already.
	New, Known int
}

// Stats sums up what a filter chooses.
type Stats struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Step is the width of a Bucket.
	Step time.Duration `json:"step_ns"`
	// Decisions counts by outcome, DryRuns beside them.
	Decisions map[policies.Outcome]int `json:"decisions"`
	DryRuns   int                      `json:"dry_runs"`
	// Episodes counts by fate those that have an attempt in the time.
	Episodes map[record.Fate]int `json:"episodes"`
	Timeline []Bucket            `json:"timeline"`
	// The lists are sorted by their count, the greatest first, and hold at most 20 each.
	Blockers   []BlockerCount `json:"blockers"`
	Policies   []PolicyCount  `json:"policies"`
	Evictors   []Count        `json:"evictors"`
	Users      []Count        `json:"users"`
	Namespaces []Count        `json:"namespaces"`
	Workloads  []Count        `json:"workloads"`
	Nodes      []Count        `json:"nodes"`
}

// Bucket counts the decisions of a part of the time, by outcome.
type Bucket struct {
	At        time.Time                `json:"at"`
	Decisions map[policies.Outcome]int `json:"decisions"`
}

// Count says how many decisions there were about or by something, and how many of them refused. Name of a
// workload is namespace/Kind/name.
type Count struct {
	Name      string `json:"name"`
	Decisions int    `json:"decisions"`
	Refused   int    `json:"refused"`
}

// BlockerCount is what refuses most. Name is a policy, or namespace/name of a budget; budgets on one pod
// count each.
type BlockerCount struct {
	Kind     record.BlockerKind `json:"kind"`
	Name     string             `json:"name"`
	Refusals int                `json:"refusals"`
	// Stuck counts the pods that it blocks still, and Message is the newest reply to one of them.
	Stuck   int    `json:"stuck"`
	Message string `json:"message,omitempty"`
}

// PolicyCount says what a policy did, and what it would have done: decisions in which it refused, warned,
// only audited a violation, held for too long, or failed.
type PolicyCount struct {
	Policy  string `json:"policy"`
	Refused int    `json:"refused"`
	Warned  int    `json:"warned"`
	Audited int    `json:"audited"`
	Expired int    `json:"expired"`
	Failed  int    `json:"failed"`
}

// Retention is what is kept. What is zero does not bound.
type Retention struct {
	Age  time.Duration
	Size int64 // bytes
}

// Completeness compares decisions with the API server's audit log over a time in which both were kept.
type Completeness struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Decisions and Answers (to evictions that came as far as webhooks) are matched one to one by the
	// decision's id.
	Decisions int `json:"decisions"`
	Answers   int `json:"answers"`
	Matched   int `json:"matched"`
	// WithoutAnswer lists decisions that the audit log lacks, WithoutDecision answers that name a decision
	// which the store lacks; at most 100 each, Missing counts all.
	WithoutAnswer    []Row           `json:"without_answer"`
	WithoutDecision  []record.Answer `json:"without_decision"`
	MissingAnswers   int             `json:"missing_answers"`
	MissingDecisions int             `json:"missing_decisions"`
	// Passages counts the answers to evictions by how they passed us, and NotSeen lists at most 100 of
	// those that failed open or were not seen.
	Passages map[record.Passage]int `json:"passages"`
	NotSeen  []record.Answer        `json:"not_seen"`
}

// Complete reports whether every decision has its answer and every answer its decision.
func (c Completeness) Complete() bool {
	return c.MissingAnswers == 0 && c.MissingDecisions == 0
}
