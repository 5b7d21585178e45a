package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// Story is a decision or an episode, and how it is told.
type Story struct {
	review.Story
	Clock review.Clock
	// Again are the flags by which a command looks at the same place.
	Again string
	// Input asks for what the policies were given.
	Input bool
}

// Print tells a decision or an episode.
func (s Story) Print(to output.Printer, format string) error {
	p := printer{to}
	var data any = s.Record
	if s.Whole {
		data = s.Episode
	}
	if done, err := p.Structured(format, data); done {
		return err
	}
	if s.Whole {
		p.episodeStory(s)
	} else {
		p.decisionStory(s)
	}
	if s.Input && s.Record != nil {
		p.Printf("\nWhat the policies were given\n")
		return p.safeInput(s.Record.Input)
	}
	return nil
}

func (s Story) clock() clock { return clock{s.Clock} }

// maxMessage bounds what is told of a message, in characters; -o json has the whole.
const maxMessage = 4000

func (p printer) decisionStory(s Story) {
	r := s.Record
	p.Say(0, "Decision %s: %s", r.DecisionID, outcomeText(r.Result))
	p.Heading("What was asked")
	p.Say(2, "%s", asked(s.clock(), r))
	p.annotations(r.Request.Annotations)
	p.Heading("What it was told")
	p.told(r.Result)
	p.why("Why", s.clock(), r.Result)
	p.override(r)
	if s.Episode != nil {
		p.Heading("What became of the pod")
		p.became(s)
	}
	p.unblock(s)
	p.Heading("More")
	if s.Episode != nil {
		p.Say(2, "evictgate review show%s %s", s.Again, output.ShellQuote(s.Episode.ID))
		p.Say(4, "all %d %s to evict this pod", s.Episode.Attempts, output.OneOrMany("try", "tries", s.Episode.Attempts))
	}
	if !s.Input {
		p.Say(2, "evictgate review show%s --input %s", s.Again, output.ShellQuote(r.DecisionID))
		p.Say(4, "what the policies were given")
	}
	p.Say(2, "decided by %s, policies of revision %s", output.OrDash(r.Labels["id"]), r.Revision)
}

func (p printer) episodeStory(s Story) {
	e := s.Episode
	p.Say(0, "%s: %s", podText(e.Namespace, e.Pod, e.Workload, e.Node), render.Fate(e.Fate))
	p.Heading("What became of the pod")
	p.became(s)
	if e.Attempts > 0 {
		p.Heading("Who tried to evict it")
		for _, a := range e.Evictors {
			p.Point(2, "-", "%s: %s, %s", who(a.Evictor, a.User), times(a.Count), s.clock().between(a.First, a.Last))
		}
		p.Heading("What they were told")
		for _, r := range e.Replies {
			p.reply(s.clock(), r)
		}
	}
	if s.Record != nil {
		p.why("What was found at the last try", s.clock(), s.Record.Result)
		p.override(s.Record)
	}
	p.unblock(s)
	p.Heading("More")
	p.Say(2, "evictgate review list%s --since all --pod %s", s.Again, output.ShellQuote(orElse(e.PodUID, e.Pod)))
	p.Say(4, "each try by itself")
	if s.Record != nil {
		p.Say(2, "evictgate review show%s %s", s.Again, output.ShellQuote(s.Record.DecisionID))
		p.Say(4, "the last one")
	}
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// podText names a pod, and where it belongs.
func podText(namespace, pod, workload, node string) string {
	text := fmt.Sprintf("Pod %s/%s", namespace, pod)
	if workload != "" {
		text += " of " + workload
	}
	if node != "" {
		text += " on node " + node
	}
	return text
}

func who(evictor, user string) string {
	if evictor == "" || evictor == "user" {
		return user
	}
	return fmt.Sprintf("%s (%s)", evictor, user)
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

func asked(c clock, r *record.Record) string {
	node := ""
	if r.Pod != nil {
		node = r.Pod.Node
	}
	what := podText(r.Request.Namespace, r.Request.Name, r.Workload(), node)
	text := fmt.Sprintf("At %s, %s asked to evict p%s.", c.ago(r.Timestamp), who(r.Request.Evictor, r.Request.User.Username), what[1:])
	if r.Pod == nil {
		text += " Evictgate knew no such pod."
	}
	if r.Request.DryRun {
		text += " It was a dry run: nothing would have been evicted."
	}
	return text
}

func (p printer) annotations(annotations map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		p.Say(2, "The Eviction was annotated %s=%s", key, output.AtMost(annotations[key], maxMessage))
	}
}

func outcomeText(d *policies.Decision) string {
	text := string(d.Outcome)
	if d.Allowed() {
		if d.Outcome != policies.Admitted {
			text += ", and so admitted"
		}
		return text
	}
	return strings.TrimSpace(fmt.Sprintf("%s, %d %s", text, d.Code, d.Reason))
}

func (p printer) told(d *policies.Decision) {
	if d.Message == "" {
		p.Say(2, "It was admitted; the API server has the last word.")
	} else {
		p.Say(2, "%s", output.AtMost(d.Message, maxMessage))
	}
	for _, w := range d.Warnings {
		if !retold(d, w) {
			p.Point(2, "Warning:", "%s", output.AtMost(w, maxMessage))
		}
	}
}

// cureWarning is how the warning begins that lists the cures.
const cureWarning = "to unblock: "

// retold reports whether the story tells a warning in another place: the cures, the pods that a budget waits
// for, and what policies found.
func retold(d *policies.Decision, warning string) bool {
	if d.Disruption != nil && (strings.HasPrefix(warning, cureWarning) || slices.ContainsFunc(d.Disruption.Blockers, func(b policies.Blocker) bool {
		return strings.HasPrefix(warning, "pod "+b.Name+":")
	})) {
		return true
	}
	return slices.ContainsFunc(d.Violations, func(v policies.Violation) bool { return strings.Contains(warning, v.Reason) }) ||
		slices.ContainsFunc(d.Failures, func(f policies.Failure) bool { return strings.Contains(warning, f.Error) })
}

func (p printer) reply(c clock, r record.Reply) {
	text := string(r.Outcome)
	if r.Refused() {
		text += fmt.Sprintf(" %d", r.Code)
	}
	if r.Kind != "" {
		text += " by " + render.Blocker(r.Kind, r.Policies, r.Budgets)
	}
	p.Point(2, "-", "%s: %s, %s", text, times(r.Count), c.between(r.First, r.Last))
	if r.Message != "" {
		p.Say(4, "%s", output.AtMost(r.Message, maxMessage))
	}
}

// why tells what stood for and against the eviction, one by one; what the message says is not said again.
func (p printer) why(heading string, c clock, d *policies.Decision) {
	blocks := d.Disruption != nil && !d.Disruption.Allowed
	if len(d.Violations)+len(d.Failures) == 0 && (!blocks || len(d.Disruption.Blockers) == 0) {
		return
	}
	p.Heading(heading)
	if blocks {
		p.budget(c, d)
	}
	for _, v := range d.Violations {
		p.violation(c, d, v)
	}
	for _, f := range d.Failures {
		p.Point(2, "-", "Policy %s (%s) could not be evaluated: %s", f.Policy, f.Enforcement, output.AtMost(f.Error, maxMessage))
	}
}

func (p printer) budget(c clock, d *policies.Decision) {
	if !strings.Contains(d.Message, d.Disruption.Detail) {
		p.Point(2, "-", "%s", output.AtMost(d.Disruption.Detail, maxMessage))
	}
	for _, b := range d.Disruption.Blockers {
		text := fmt.Sprintf("The budget waits for pod %s: %s", b.Name, b.Why)
		if b.Since != nil {
			text += " since " + c.ago(b.Since.Time)
		}
		if b.Until != nil {
			text += ", its grace period ends " + c.at(b.Until.Time)
		}
		if b.Detail != "" {
			text += ", " + b.Detail
		}
		p.Point(2, "-", "%s", output.AtMost(text, maxMessage))
	}
}

func (p printer) violation(c clock, d *policies.Decision, v policies.Violation) {
	reason := ": " + output.AtMost(v.Reason, maxMessage)
	if strings.Contains(d.Message, v.Reason) {
		reason = ""
	}
	p.Point(2, "-", "Policy %s %s%s%s", v.Policy, effectText(d, v), reason, detailText(v.Detail))
	if v.Expired != nil {
		p.Say(4, "It has held the pod since %s, longer than its maxHold of %s, so it only warns.", c.at(v.Expired.Since.Time), v.Expired.MaxHold)
	}
}

// effectText says what a violation did, and what it would have done.
func effectText(d *policies.Decision, v policies.Violation) string {
	verb := map[policies.Effect]string{policies.Deny: "deny", policies.Delay: "delay"}[v.Effect]
	switch {
	case verb == "":
		return "warns"
	case d.Override != nil && d.Override.Used && slices.Contains(d.Override.Policies, v.Policy):
		return "would " + verb + " it, and is overridden"
	case v.Enforcing() && v.Effect == policies.Deny:
		return "denies it"
	case v.Enforcing():
		return "delays it"
	case v.Enforcement == policies.Warn:
		return "would " + verb + " it, and only warns"
	}
	return "would " + verb + " it, and is only audited"
}

// detailText is a violation's detail, on one line.
func detailText(detail map[string]any) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		value, ok := detail[key].(string)
		if detail[key] == nil {
			continue
		}
		if !ok {
			raw, err := json.Marshal(detail[key])
			if err != nil {
				continue
			}
			value = string(raw)
		}
		parts = append(parts, key+"="+value)
	}
	if len(parts) == 0 {
		return ""
	}
	return output.AtMost(" ("+strings.Join(parts, ", ")+")", maxMessage)
}

func (p printer) override(r *record.Record) {
	o := r.Result.Override
	if o == nil {
		return
	}
	p.Heading("Override")
	user := r.Request.User.Username
	switch {
	case o.Used:
		p.Say(2, "%s overrode %s: %s", user, strings.Join(o.Policies, ", "), output.OrDash(o.Reason))
	case o.Ignored != "":
		p.Say(2, "%s asked to override policies (%s), which does not count: %s", user, output.OrDash(o.Reason), o.Ignored)
	default:
		p.Say(2, "%s asked to override policies (%s), and none would have refused.", user, output.OrDash(o.Reason))
	}
}

// unblock tells the cures of the last answer, while they are of use.
func (p printer) unblock(s Story) {
	var cures []string
	switch {
	case s.Whole && s.Episode.Fate == record.Blocked && s.Episode.Latest != nil:
		cures = s.Episode.Latest.Cures
	case !s.Whole && !s.Record.Result.Allowed() && s.Record.Result.Disruption != nil && (s.Episode == nil || s.Episode.Fate == record.Blocked):
		cures = s.Record.Result.Disruption.Cures
	}
	if len(cures) > 0 {
		p.Heading("What unblocks it")
		p.Numbered(2, cures)
	}
}

func (p printer) safeInput(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		p.Printf("  nothing was recorded\n")
		return nil
	}
	_, err := p.Structured("json", raw)
	return err
}
