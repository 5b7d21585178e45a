package page

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
)

// label is how an outcome or a fate is shown: never by its colour alone, always with a mark and a word.
type label struct {
	// Tone is one of good, wait, bad, odd, plain: the colour.
	Tone string
	// Mark is one of check, clock, cross, question, dot, around: the shape.
	Mark string
	Text string
	// Hint is what it means.
	Hint string
}

func outcomeLabel(o policies.Outcome) label {
	switch o {
	case policies.Admitted:
		return label{"good", "check", "admitted", "The API server goes on, and has the last word."}
	case policies.Delayed:
		return label{"wait", "clock", "delayed", "Not now (429): every client tries again."}
	case policies.Denied:
		return label{"bad", "cross", "denied", "No retry helps until somebody acts."}
	case policies.Undecided:
		return label{"odd", "question", "undecided", "A policy failed or did not end in time."}
	}
	return label{"plain", "dot", string(o), ""}
}

func fateLabel(f record.Fate) label {
	switch f {
	case record.Evicted:
		return label{"good", "check", "evicted", "The Eviction API removed the pod."}
	case record.AdmittedOnly:
		return label{"plain", "dot", "admitted", "Evictgate admitted; nothing is known of what came after."}
	case record.Blocked:
		return label{"wait", "clock", "blocked", "The last answer refuses, and the pod is still there as far as is known."}
	case record.RefusedByBudget:
		return label{"wait", "cross", "refused by budget", "Evictgate admitted; the API server's own look at the budgets refused."}
	case record.RefusedElsewhere:
		return label{"bad", "cross", "refused elsewhere", "Evictgate admitted; another webhook or the API server refused."}
	case record.Deleted:
		return label{"odd", "around", "deleted", "The pod was deleted around Evictgate: by a DELETE, or a disruption that is not an eviction."}
	case record.Gone:
		return label{"plain", "dot", "gone", "The pod finished or was removed, and nobody saw by whom."}
	case record.EvictedUnseen:
		return label{"odd", "around", "evicted unseen", "The Eviction API removed the pod without a decision of Evictgate."}
	}
	return label{"plain", "dot", string(f), ""}
}

func kindLabel(k record.BlockerKind) string {
	switch k {
	case record.ByBudget:
		return "budget"
	case record.ByBudgets:
		return "budgets together"
	case record.ByPolicy:
		return "policy"
	case record.ByFailure:
		return "failed policy"
	}
	return string(k)
}

// known says how the fate of an episode is known.
func known(e *record.Episode) string {
	s := e.Sighting
	switch {
	case e.Eviction != nil && e.Eviction.Passage != record.Decided:
		return "The API server's audit log has the eviction, and it did not pass Evictgate (" + passage(e.Eviction.Passage) + ")."
	case e.Eviction != nil:
		return "The API server's audit log has the eviction, answered with " + strconv.Itoa(int(e.Eviction.Code)) + "."
	case s != nil && s.EvictedByAPI:
		return "The pod was seen with the mark that the API server puts on each pod it evicts (DisruptionTarget, EvictionByEvictionAPI)."
	case e.Deletion != nil:
		return "The API server's audit log has a DELETE of the pod by " + e.Deletion.User + "."
	case s != nil && s.DisruptedBy != "":
		return "The pod was seen with the condition DisruptionTarget and the reason " + s.DisruptedBy + "."
	case s != nil && !s.Terminating.IsZero():
		return "The pod was seen terminating without the mark that the API server puts on each pod it evicts."
	case s != nil && !s.Finished.IsZero():
		return "The pod was seen to have finished by itself."
	case s != nil && !s.Gone.IsZero():
		return "The pod was seen to be missing; nobody saw it go."
	case e.Fate == record.Blocked:
		return "The last decision is a refusal, and nothing has been seen of the pod's end."
	case e.Refusal != nil && (e.Fate == record.RefusedByBudget || e.Fate == record.RefusedElsewhere):
		return "The API server's audit log has the refusal, by " + e.Refusal.RefusedBy + "."
	}
	return "Neither the API server's audit log nor the pod watch has told what came after."
}

func passage(p record.Passage) string {
	switch p {
	case record.Decided:
		return "decided"
	case record.FailedOpen:
		return "Evictgate could not be asked, and failurePolicy Ignore let it go on"
	case record.FailedClosed:
		return "Evictgate could not be asked, and failurePolicy Fail refused it"
	case record.NotCalled:
		return "refused before any webhook was asked"
	case record.Unseen:
		return "nothing shows that Evictgate was asked"
	}
	return string(p)
}

// span is a duration in its two greatest units.
func span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return trimZero(int(d.Hours()), "h", int(d.Minutes())%60, "min")
	}
	return trimZero(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
}

func trimZero(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// number writes a count with a thin space between thousands.
func number(n int) string { return strings.ReplaceAll(humanize.Comma(int64(n)), ",", "\u202f") }

// plural is output.Plural in the order in which templates read well.
func plural(n int, word string) string { return output.Plural(word, n) }
