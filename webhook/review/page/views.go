package page

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// overview is the morning after on one page.
type overview struct {
	Stats    store.Stats
	Chart    chart
	Outcomes []share
	Fates    []share
	Refused  int
	Total    int
	// Stuck are the first of AllStuck.
	Stuck    []record.Episode
	AllStuck int
	// GivenUp counts the pods that are blocked and that nobody tries to evict any more.
	GivenUp  int
	Lists    []countList
	Blockers []store.BlockerCount
	// MostRefusals is the greatest number of Blockers.
	MostRefusals int
}

// countList is a list of counts and where its entries lead.
type countList struct {
	Title, Column string
	Counts        []store.Count
	Most          int
	// Parameter is the filter that chooses an entry.
	Parameter string
}

const (
	shortList = 5
	topList   = 8
)

func (p *Page) overview(ctx context.Context, _ *http.Request, q query) (view, error) {
	stats, err := p.stats(ctx, q)
	if err != nil {
		return view{}, err
	}
	stuck, err := p.options.Store.StuckPage(ctx, q.filter, q.triedSince, store.Page{Limit: shortList})
	if err != nil {
		return view{}, err
	}
	o := overview{
		Stats: stats, AllStuck: stuck.Total, GivenUp: stuck.GivenUp, Stuck: stuck.Episodes,
		Blockers: stats.Blockers[:min(len(stats.Blockers), topList)],
		Chart:    timeline(stats, func(at time.Time) string { return at.In(q.zone).Format("Mon 2 Jan 15:04") }),
	}
	for _, name := range review.Outcomes {
		n := stats.Decisions[name]
		o.Total += n
		if name != policies.Admitted {
			o.Refused += n
		}
		o.Outcomes = append(o.Outcomes, share{Label: outcomeLabel(name), Count: n, Href: q.to("/decisions", "outcome", string(name))})
	}
	for _, name := range record.Fates {
		if n := stats.Episodes[name]; n > 0 {
			o.Fates = append(o.Fates, share{Label: fateLabel(name), Count: n, Href: q.to("/episodes", "fate", string(name))})
		}
	}
	o.Outcomes, o.Fates = row(o.Outcomes), row(o.Fates)
	for _, b := range o.Blockers {
		o.MostRefusals = max(o.MostRefusals, b.Refusals)
	}
	o.Lists = []countList{
		newCountList("Who evicts", "Evictor", "evictor", stats.Evictors),
		newCountList("Namespaces", "Namespace", "namespace", stats.Namespaces),
		newCountList("Workloads", "Workload", "workload", stats.Workloads),
		newCountList("Nodes", "Node", "node", stats.Nodes),
	}
	return view{title: "Overview", template: "overview", body: o, data: stats, sheet: timelineSheet(stats)}, nil
}

func newCountList(title, column, parameter string, counts []store.Count) countList {
	l := countList{Title: title, Column: column, Parameter: parameter, Counts: counts[:min(len(counts), topList)]}
	for _, c := range l.Counts {
		l.Most = max(l.Most, c.Decisions)
	}
	return l
}

// Href is where an entry of the list leads. A workload's name is namespace/Kind/name.
func (l countList) Href(q frame, name string) string {
	if l.Parameter == "workload" {
		if namespace, workload, ok := strings.Cut(name, "/"); ok {
			return q.to("/episodes", "namespace", namespace, "workload", workload)
		}
	}
	return q.to("/decisions", l.Parameter, name)
}

// field is one of a form for filters.
type field struct {
	Name, Label, Value, Hint string
	// Options make it a choice.
	Options []string
	// Check makes it a box to tick.
	Check bool
}

// fields are those of a form for filters, filled in from the URL.
func (q query) fields(but ...string) []field {
	all := []field{}
	for _, f := range review.Fields {
		all = append(all, field{Name: f.Parameter(), Label: f.Label, Hint: f.Hint, Options: f.Options, Check: f.IsSwitch})
	}
	all = append(all, field{Name: "tried", Label: "Tried since", Hint: review.DefaultTried})
	var out []field
	for _, f := range all {
		if !slices.Contains(but, f.Name) {
			f.Value = q.values.Get(f.Name)
			out = append(out, f)
		}
	}
	return out
}

// filters is a form and what it has chosen.
type filters struct {
	Fields []field
	// Active are those that are set, but for the time.
	Active []field
}

func (q query) filters(but ...string) filters {
	f := filters{Fields: q.fields(but...)}
	for _, one := range f.Fields {
		if one.Value != "" && !slices.Contains(carried, one.Name) {
			f.Active = append(f.Active, one)
		}
	}
	return f
}

// Names are the parameters that the form sets, for those that it must not hand on as well.
func (f filters) Names() []string {
	out := []string{"limit"}
	for _, one := range f.Fields {
		out = append(out, one.Name)
	}
	return out
}

// decisions lists records.
type decisions struct {
	Filters filters
	Rows    []store.Row
	Next    string
	First   string
}

func (p *Page) decisions(ctx context.Context, _ *http.Request, q query) (view, error) {
	rows, err := p.options.Store.List(ctx, q.filter, q.page)
	if err != nil {
		return view{}, pageError(q, err)
	}
	d := decisions{Filters: q.filters("fate", "tried"), Rows: rows.Rows, Next: q.next("/decisions", rows.Next), First: q.first("/decisions")}
	return view{title: "Decisions", template: "decisions", body: d, data: rows, sheet: render.Decisions.Lines(rows.Rows), next: q.next("/decisions", rows.Next)}, nil
}

// next is the address of the page after this one, in the same format; empty for the last.
func (q query) next(path, after string) string {
	if after == "" {
		return ""
	}
	return q.with(path, "after", after, "format", q.format)
}

// first is the address of the first page; empty on it.
func (q query) first(path string) string {
	if q.page.After == "" {
		return ""
	}
	return q.with(path)
}

// pageError says that a page's mark is wrong where the store may have failed for that.
func pageError(q query, err error) error {
	if q.page.After != "" && errors.Is(err, store.ErrPage) {
		return badRequest{errors.New("after is not a mark of a page; start from the first page")}
	}
	return err
}

// decision is one record.
type decision struct {
	Record record.Record
	Reply  record.Reply
	// Episode is what became of the pod; null for a dry run.
	Episode *record.Episode
	// EpisodeID is its id, or that of the pod's other evictions.
	EpisodeID  string
	Workload   string
	Violations []violation
	Budgets    []policies.Budget
	Labels     []pair
	Notes      []pair
	Input      shownText
	InputSize  int
	Took       time.Duration
}

// violation is one with its detail as pairs.
type violation struct {
	policies.Violation
	Details []pair
}

func (p *Page) decision(ctx context.Context, r *http.Request, q query) (view, error) {
	id := r.PathValue("id")
	found, err := p.options.Store.Record(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return view{}, notFound{"There is no decision " + visible(shorten(id)) + "."}
	}
	if err != nil {
		return view{}, err
	}
	d := decision{
		Record: found, EpisodeID: found.EpisodeID(), Workload: found.Workload(),
		Labels: pairsOf(found.Labels), Notes: pairsOf(found.Request.Annotations), Took: time.Duration(found.Metrics["timer_rego_query_eval_ns"]),
	}
	if found.Result == nil {
		d.Record.Result = &policies.Decision{}
	}
	d.Reply = record.ReplyOf(d.Record.Result, found.Timestamp)
	for _, v := range d.Record.Result.Violations {
		d.Violations = append(d.Violations, violation{v, details(v.Detail)})
	}
	d.Budgets = budgetsOf(found.Input)
	d.Input, d.InputSize = formatted(found.Input), len(found.Input)
	episode, err := p.options.Store.Episode(ctx, d.EpisodeID)
	switch {
	case err == nil:
		d.Episode = &episode
	case !errors.Is(err, store.ErrNotFound):
		return view{}, err
	}
	return view{title: "Decision on " + visible(shorten(found.Request.Namespace+"/"+found.Request.Name)), template: "decision", body: d, data: found}, nil
}

// pairsOf lists a map by name.
func pairsOf(m map[string]string) []pair {
	var out []pair
	for name, value := range m {
		out = append(out, pair{name, value})
	}
	slices.SortFunc(out, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// details lists what a violation says, by name; what is not text stands as JSON.
func details(detail map[string]any) []pair {
	texts := map[string]string{}
	for name, value := range detail {
		text, ok := value.(string)
		if !ok {
			text = asJSON(value)
		}
		texts[name] = text
	}
	return pairsOf(texts)
}

// asJSON is a value as JSON with its characters as they are: HTML's are escaped where it is shown.
func asJSON(value any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// budgetsOf are the budgets' numbers, where the record's input has them.
func budgetsOf(input json.RawMessage) []policies.Budget {
	var in struct {
		Budgets []policies.Budget `json:"budgets"`
	}
	if json.Unmarshal(input, &in) != nil {
		return nil
	}
	return in.Budgets
}

// formatted is JSON with line ends, or as it is when it cannot be read.
func formatted(raw json.RawMessage) shownText {
	var b bytes.Buffer
	if len(raw) > maxJSON*4 || json.Indent(&b, raw, "", "  ") != nil {
		return shown(string(raw), maxJSON)
	}
	return shown(b.String(), maxJSON)
}

// episodes lists pods with what became of them.
type episodes struct {
	Filters  filters
	Episodes []record.Episode
	Next     string
	First    string
}

func (p *Page) episodes(ctx context.Context, _ *http.Request, q query) (view, error) {
	list, err := p.options.Store.Episodes(ctx, q.filter, q.page)
	if err != nil {
		return view{}, pageError(q, err)
	}
	e := episodes{Filters: q.filters("tried", "dry_runs", "episode"), Episodes: list.Episodes, Next: q.next("/episodes", list.Next), First: q.first("/episodes")}
	return view{title: "Episodes", template: "episodes", body: e, data: list, sheet: render.Episodes.Lines(list.Episodes), next: e.Next}, nil
}

// episodeBody is one pod's story.
type episodeBody struct {
	record.Episode
	// Events are what happened, in order.
	Events []event
	// Attempted are its last decisions.
	Attempted []store.Row
	More      bool
}

// Known says how its fate is known.
func (b episodeBody) Known() string { return known(&b.Episode) }

// event is something that happened to a pod.
type event struct {
	At   time.Time
	Tone label
	// What is a sentence, Text what was said.
	What, Text string
	// Until is when the last of several was, Count how many.
	Until time.Time
	Count int
}

// lastAttempts is how many decisions an episode's page lists.
const lastAttempts = 10

func (p *Page) episode(ctx context.Context, r *http.Request, q query) (view, error) {
	id := r.PathValue("id")
	episode, err := p.options.Store.Episode(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return view{}, notFound{"There is no episode " + visible(shorten(id)) + "."}
	}
	if err != nil {
		return view{}, err
	}
	rows, err := p.options.Store.List(ctx, store.Filter{Episode: id}, store.Page{Limit: lastAttempts})
	if err != nil {
		return view{}, err
	}
	b := episodeBody{Episode: episode, Events: happened(episode), Attempted: rows.Rows, More: rows.Next != ""}
	return view{title: "Evictions of " + visible(shorten(episode.Namespace+"/"+episode.Pod)), template: "episode", body: b, data: episode, sheet: render.Episodes.Lines([]record.Episode{episode})}, nil
}

// happened lists what is known of an episode, in order of time.
func happened(e record.Episode) []event {
	var out []event
	for _, r := range e.Replies {
		what := "Evictgate answered " + strconv.Itoa(int(r.Code))
		out = append(out, event{At: r.First, Until: r.Last, Count: r.Count, Tone: outcomeLabel(r.Outcome), What: what, Text: r.Message})
	}
	for _, a := range []*record.Answer{e.Refusal, e.Eviction, e.Deletion} {
		if a != nil {
			out = append(out, answerEvent(*a))
		}
	}
	if s := e.Sighting; s != nil {
		out = append(out, sightingEvents(*s)...)
	}
	slices.SortStableFunc(out, func(a, b event) int { return a.At.Compare(b.At) })
	return out
}

func answerEvent(a record.Answer) event {
	v := event{At: a.At, Count: 1, Tone: label{"good", "check", "done", ""}, Text: a.Message}
	switch {
	case a.Verb == record.VerbDelete:
		v.Tone = fateLabel(record.Deleted)
		v.What = a.User + " deleted the pod directly; the API server answered " + strconv.Itoa(int(a.Code))
	case a.Succeeded():
		v.What = "The API server evicted the pod for " + a.User + ", answering " + strconv.Itoa(int(a.Code))
	default:
		v.Tone = label{"bad", "cross", "refused", ""}
		v.What = "The API server refused " + a.User + " with " + strconv.Itoa(int(a.Code)) + ", by " + a.RefusedBy
	}
	return v
}

func sightingEvents(s record.Sighting) []event {
	var out []event
	add := func(at time.Time, what string) {
		if !at.IsZero() {
			out = append(out, event{At: at, Count: 1, Tone: label{"plain", "dot", "seen", ""}, What: what})
		}
	}
	why := ""
	switch {
	case s.EvictedByAPI:
		why = ", marked as evicted by the Eviction API"
	case s.DisruptedBy != "":
		why = ", marked as disrupted by " + s.DisruptedBy
	}
	add(s.Terminating, "The pod was told to stop"+why)
	add(s.Finished, "The pod had finished")
	add(s.Gone, "The pod was gone")
	return out
}

// stuck lists pods whose eviction is refused.
type stuck struct {
	Filters filters
	// Episodes are those of this page, Total counts all of them.
	Episodes    []record.Episode
	Total       int
	Next, First string
	// GivenUp counts the pods that nobody tries to evict any more; they are listed with tried=all.
	GivenUp int
	// Tried is how long ago the last try may be; all for any time.
	Tried string
}

// TriedText says when the last try must have been.
func (s stuck) TriedText() string {
	if _, err := review.ReadAge(s.Tried); err == nil {
		return "in the last " + s.Tried
	}
	return "since " + s.Tried
}

// stuckLimit is how many a page shows.
const stuckLimit = 500

func (p *Page) stuck(ctx context.Context, _ *http.Request, q query) (view, error) {
	if q.format != "csv" && q.format != "json" && q.values.Get("limit") == "" {
		q.page.Limit = stuckLimit
	}
	list, err := p.options.Store.StuckPage(ctx, q.filter, q.triedSince, q.page)
	if err != nil {
		return view{}, pageError(q, err)
	}
	data := struct {
		At         time.Time        `json:"at"`
		TriedSince time.Time        `json:"tried_since,omitzero"`
		Stuck      []record.Episode `json:"stuck"`
		Total      int              `json:"total"`
		Next       string           `json:"next,omitempty"`
	}{p.options.Now().UTC(), q.triedSince, list.Episodes, list.Total, list.Next}
	s := stuck{
		Filters: q.filters("fate", "dry_runs", "episode", "outcome"), Episodes: list.Episodes, Total: list.Total, GivenUp: list.GivenUp,
		Next: q.next("/stuck", list.Next), First: q.first("/stuck"), Tried: cmp.Or(q.values.Get("tried"), review.DefaultTried),
	}
	return view{title: "Stuck", template: "stuck", body: s, data: data, sheet: render.Episodes.Lines(list.Episodes), next: s.Next}, nil
}

// policyRow is what a policy did, and what it is now.
type policyRow struct {
	store.PolicyCount
	Title, Enforcement string
	// Serves is true when it decides now.
	Serves bool
}

// policyPage lists them.
type policyPage struct {
	Rows     []policyRow
	Revision string
	// Known is true when it is known which serve.
	Known bool
}

func (p *Page) policies(ctx context.Context, _ *http.Request, q query) (view, error) {
	stats, err := p.stats(ctx, q)
	if err != nil {
		return view{}, err
	}
	var b policyPage
	var serving Serving
	if p.options.Serving != nil {
		serving = p.options.Serving()
		b.Revision, b.Known = serving.Revision, true
	}
	b.Rows = joinPolicies(stats.Policies, serving.Policies)
	data := struct {
		Since    time.Time           `json:"since"`
		Until    time.Time           `json:"until"`
		Policies []store.PolicyCount `json:"policies"`
	}{stats.Since, stats.Until, stats.Policies}
	return view{title: "Policies", template: "policies", body: b, data: data, sheet: policySheet(stats.Policies)}, nil
}

// joinPolicies puts what policies did beside which serve now; those that did nothing come last.
func joinPolicies(counts []store.PolicyCount, serving []ServingPolicy) []policyRow {
	var out []policyRow
	at := map[string]int{}
	for _, c := range counts {
		at[c.Policy] = len(out)
		out = append(out, policyRow{PolicyCount: c})
	}
	for _, s := range serving {
		i, ok := at[s.Name]
		if !ok {
			i = len(out)
			out = append(out, policyRow{PolicyCount: store.PolicyCount{Policy: s.Name}})
		}
		out[i].Title, out[i].Enforcement, out[i].Serves = s.Title, s.Enforcement, true
	}
	return out
}

// budgetPage lists budgets that refuse.
type budgetPage struct {
	Budgets      []store.BlockerCount
	MostRefusals int
}

func (p *Page) budgets(ctx context.Context, _ *http.Request, q query) (view, error) {
	stats, err := p.stats(ctx, q)
	if err != nil {
		return view{}, err
	}
	b := budgetPage{Budgets: []store.BlockerCount{}}
	for _, one := range stats.Blockers {
		if one.Kind == record.ByBudget || one.Kind == record.ByBudgets {
			b.Budgets = append(b.Budgets, one)
			b.MostRefusals = max(b.MostRefusals, one.Refusals)
		}
	}
	data := struct {
		Since    time.Time            `json:"since"`
		Until    time.Time            `json:"until"`
		Blockers []store.BlockerCount `json:"blockers"`
	}{stats.Since, stats.Until, b.Budgets}
	return view{title: "Budgets in trouble", template: "budgets", body: b, data: data, sheet: blockerSheet(b.Budgets)}, nil
}
