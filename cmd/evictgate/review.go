package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

// newReview groups the commands about what was decided.
func newReview(p printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Look into decisions: who was evicted, who was refused, why, and what is stuck",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newReviewList(p), newReviewShow(p), newReviewStuck(p), newReviewStats(p), newReviewReplay(p), newReviewImport(p), newReviewServe(p))
	return cmd
}

// defaultStore is where the review commands look without --store.
const defaultStore = "sqlite:evictgate.db"

// filterFlags choose decisions and episodes.
type filterFlags struct {
	since, until  string
	outcome, fate string
	filter        store.Filter
}

func (f *filterFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.since, "since", "24h", "from this time on: an age such as 90m or 7d, RFC 3339, a date, or all")
	flags.StringVar(&f.until, "until", "", "before this time; default: now")
	f.addWhich(flags)
	flags.StringVar(&f.outcome, "outcome", "", "with this outcome: admitted, delayed, denied or undecided")
	flags.StringVar(&f.fate, "fate", "", "episodes with this end: "+join(audit.Fates))
	flags.BoolVar(&f.filter.DryRuns, "dry-runs", false, "dry runs, too")
}

// addWhich adds the flags that say whose evictions, and refused by what.
func (f *filterFlags) addWhich(flags *pflag.FlagSet) {
	flags.StringVarP(&f.filter.Namespace, "namespace", "n", "", "in this namespace")
	flags.StringVar(&f.filter.Pod, "pod", "", "of this pod: its name or UID")
	flags.StringVar(&f.filter.Workload, "workload", "", "of this workload: its name, or Kind/name")
	flags.StringVar(&f.filter.Node, "node", "", "on this node")
	flags.StringVar(&f.filter.Evictor, "evictor", "", "by this kind of evictor, such as karpenter or user")
	flags.StringVar(&f.filter.User, "user", "", "by this user")
	flags.StringVar(&f.filter.Policy, "policy", "", "refused, warned of or audited by this policy")
	flags.StringVar(&f.filter.Budget, "budget", "", "refused by this budget: its name, or namespace/name")
}

// read makes the filter of the flags; now is what ages count from.
func (f *filterFlags) read(now time.Time) (store.Filter, error) {
	var err error
	if f.filter.Since, err = readTime(cmp.Or(f.since, "all"), now); err != nil {
		return f.filter, fmt.Errorf("--since: %w", err)
	}
	if f.filter.Until, err = readTime(cmp.Or(f.until, "all"), now); err != nil {
		return f.filter, fmt.Errorf("--until: %w", err)
	}
	if !f.filter.Until.IsZero() && !f.filter.Since.Before(f.filter.Until) {
		return f.filter, errors.New("--until is not after --since")
	}
	outcomes := []policies.Outcome{"", policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided}
	if f.filter.Outcome = policies.Outcome(f.outcome); !slices.Contains(outcomes, f.filter.Outcome) {
		return f.filter, fmt.Errorf("--outcome is %q; expected one of %s", f.outcome, join(outcomes[1:]))
	}
	if f.filter.Fate = audit.Fate(f.fate); f.fate != "" && !slices.Contains(audit.Fates, f.filter.Fate) {
		return f.filter, fmt.Errorf("--fate is %q; expected one of %s", f.fate, join(audit.Fates))
	}
	return f.filter, nil
}

// readTime reads a time as people write it; all is no bound.
func readTime(text string, now time.Time) (time.Time, error) {
	if text == "all" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at.UTC(), nil
		}
	}
	age, err := readAge(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time; expected an age such as 90m or 7d, RFC 3339, a date, or all", text)
	}
	return now.Add(-age).UTC(), nil
}

// maxDays bounds an age in days; a duration holds less than 300 years.
const maxDays = 36500

// readAge reads a duration, days included.
func readAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= maxDays) {
			return 0, fmt.Errorf("%q is no number of days up to %d", text, maxDays)
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
	}
	age, err := time.ParseDuration(text)
	if err == nil && age < 0 {
		err = fmt.Errorf("%q is less than 0", text)
	}
	return age, err
}

func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}
