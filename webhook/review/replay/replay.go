// Package replay decides recorded evictions again, by another set of policies, and says what would change.
// It asks the policies on the server's own path; a decision that they would take from more than its record
// holds is not judged.
package replay

import (
	"context"
	"iter"
	"runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// Options are the settings of a replay. What is zero is as the record says.
type Options struct {
	// Workers is how many records are judged at once; one for each processor when it is 0.
	Workers int
	Budgets policies.BudgetMode
	OnError policies.OnError
	// Override says who may override policies; nil for those who might.
	Override *policies.OverrideRule
	// Evictors name who evicted; nil for the names of then.
	Evictors *policies.Evictors
	// PolicySteps is how many steps the evaluation of one policy may take; policies.DefaultPolicySteps when
	// it is 0.
	PolicySteps int
	// Progress is told now and then how many records are done. It may be nil.
	Progress func(records int)
	// Each is given every change, in the order of the records; an error ends the replay. It may be nil.
	Each func(*Change) error
}

// Run judges the records by a set. Its report does not depend on the number of workers. Each decision is
// judged by itself, at its own time, with the evictions and holds that had come before it then. The error is
// that of the records, of Each or of the context.
func Run(ctx context.Context, records iter.Seq2[record.Record, error], set *policies.Set, o Options) (*Report, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	report := newReport(set.Revision())
	newJudge := func() func(offered) judgement {
		j := judge{ctx: ctx, set: set, options: o}
		return j.judge
	}
	for r := range inOrder(ctx, offer(records), o.Workers, newJudge) {
		if r.err != nil {
			return nil, r.err
		}
		report.add(&r)
		if o.Each != nil && r.change != nil {
			if err := o.Each(r.change); err != nil {
				return nil, err
			}
		}
		if o.Progress != nil && report.Records%progressStep == 0 {
			o.Progress(report.Records)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return report.close(), nil
}

// progressStep is after how many records Progress is told.
const progressStep = 256

// offered is what an iteration over records gives.
type offered struct {
	record record.Record
	err    error
}

func offer(records iter.Seq2[record.Record, error]) iter.Seq[offered] {
	return func(yield func(offered) bool) {
		for r, err := range records {
			if !yield(offered{r, err}) {
				return
			}
		}
	}
}
