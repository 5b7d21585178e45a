package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// newReview groups the commands about what was decided.
func newReview(p output.Printer) *cobra.Command {
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
	asked review.Asked
}

// add adds a flag for each field of a filter.
func (f *filterFlags) add(flags *pflag.FlagSet) { f.addBut(flags) }

// addBut leaves some fields out.
func (f *filterFlags) addBut(flags *pflag.FlagSet, but ...string) {
	f.asked = review.Asked{}
	for _, field := range review.Fields {
		if slices.Contains(but, field.Name) {
			continue
		}
		short := ""
		if field.Name == "namespace" {
			short = "n"
		}
		flag := flags.VarPF(&askedFlag{f.asked, field}, field.Name, short, field.Help)
		flag.DefValue = field.Default
		f.asked[field.Name] = field.Default
		if field.IsSwitch {
			flag.DefValue, flag.NoOptDefVal = "false", "true"
		}
	}
}

// askedFlag is the flag of a field.
type askedFlag struct {
	asked review.Asked
	field review.Field
}

func (f *askedFlag) String() string { return f.asked[f.field.Name] }

func (f *askedFlag) Set(text string) error {
	f.asked[f.field.Name] = text
	return nil
}

func (f *askedFlag) Type() string {
	if f.field.IsSwitch {
		return "bool"
	}
	return "string"
}

// read makes the filter of the flags.
func (f *filterFlags) read(c review.Clock) (store.Filter, error) {
	return f.asked.Filter(c, flagTitle)
}

func flagTitle(name string) string { return "--" + name }
