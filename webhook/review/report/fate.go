package report

import (
	"fmt"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
)

// became tells what became of the pod, and how that is known.
func (p printer) became(s Story) {
	for _, sentence := range fateSentences(s.clock(), s.Episode) {
		p.Say(2, "%s", sentence)
	}
}

func fateSentences(c clock, e *record.Episode) []string {
	var list []string
	switch e.Fate {
	case record.Evicted, record.EvictedUnseen:
		list = append(list, evictedSentence(c, e))
	case record.RefusedByBudget, record.RefusedElsewhere:
		list = append(list, refusedSentence(c, e))
	case record.Deleted:
		list = append(list, deletedSentence(c, e))
	case record.Gone:
		list = append(list, "It is gone, and nobody saw by whom.")
	case record.AdmittedOnly:
		list = append(list, fmt.Sprintf("The last try was admitted, at %s. What came after is not known here: serve --store watches the pods, and evictgate review import reads the API server's audit log.", c.ago(e.LastAdmitted)))
	case record.Blocked:
		list = append(list, fmt.Sprintf("It is blocked: refused since %s, the last time at %s. The pod is still there, as far as is known.", c.ago(e.FirstRefused), c.ago(e.Last)))
	}
	if text := sightingSentence(c, e.Sighting); text != "" {
		list = append(list, text)
	}
	if e.Unseen > 0 {
		list = append(list, fmt.Sprintf("%d %s of this pod did not pass evictgate, as the API server's audit log shows.", e.Unseen, output.Plural("eviction", e.Unseen)))
	}
	return list
}

func evictedSentence(c clock, e *record.Episode) string {
	a := e.Eviction
	switch {
	case a == nil:
		return "It was evicted: the API server marked the pod (condition DisruptionTarget, reason EvictionByEvictionAPI), as the watch saw."
	case a.Passage == record.FailedOpen:
		return fmt.Sprintf("It was evicted by %s at %s while evictgate could not be asked: the webhook failed open, as the API server's audit log shows.", a.User, c.ago(a.At))
	case a.Passage != record.Decided:
		return fmt.Sprintf("It was evicted by %s at %s without evictgate being asked, as the API server's audit log shows.", a.User, c.ago(a.At))
	}
	return fmt.Sprintf("It was evicted: the API server carried out what %s asked for at %s, as its audit log shows.", a.User, c.ago(a.At))
}

func refusedSentence(c clock, e *record.Episode) string {
	a := e.Refusal
	if a == nil {
		return "It was admitted here, and refused after that."
	}
	text := fmt.Sprintf("It was admitted here, and then refused by %s at %s, as the API server's audit log shows", refuserText(a.RefusedBy), c.ago(a.At))
	if a.Message != "" {
		text += ": " + output.AtMost(a.Message, maxMessage)
	}
	return text
}

// refuserText names who refused what was admitted here.
func refuserText(by string) string {
	switch by {
	case record.RefuserBudget:
		return "the API server's own look at the budgets"
	case record.RefuserAPIServer:
		return "the API server"
	}
	return by
}

func deletedSentence(c clock, e *record.Episode) string {
	s := e.Sighting
	switch {
	case e.Deletion != nil:
		return fmt.Sprintf("It was deleted directly, past budgets and policies, by %s at %s, as the API server's audit log shows.", e.Deletion.User, c.ago(e.Deletion.At))
	case s != nil && s.DisruptedBy != "":
		return fmt.Sprintf("It was taken away in another way than by eviction: its condition DisruptionTarget has the reason %s, as the watch saw.", s.DisruptedBy)
	}
	return "It was deleted directly, past budgets and policies: the watch saw it terminating without the mark that the API server gives to what it evicts."
}

func sightingSentence(c clock, s *record.Sighting) string {
	if s == nil {
		return ""
	}
	text := ""
	add := func(what string) {
		if text != "" {
			text += ", "
		}
		text += what
	}
	if !s.Finished.IsZero() {
		add("finished by itself by " + c.at(s.Finished))
	}
	if !s.Terminating.IsZero() {
		add("terminating since " + c.at(s.Terminating))
	}
	if !s.Gone.IsZero() {
		add("gone by " + c.at(s.Gone))
	}
	if text == "" {
		return ""
	}
	return "The watch saw it " + text + "."
}
