package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// A filter is a list of criteria, made once by Filter.criteria. Each table that can be filtered says where it has what a
// criterion asks for, and the SQL is made of both: see subject. Of records that are in no store, Filter.Chooses asks the
// same of the row that they would be.

// criterion asks that something has a value.
type criterion struct {
	field string
	value any
}

// criteria are what a filter asks for, but for the time. Those that few rows have as a rule come first.
func (f Filter) criteria() []criterion {
	budgetNamespace, budget := splitBudget(f.Budget)
	kind, workload := splitWorkload(f.Workload)
	if workload == "" {
		kind, workload = "", kind
	}
	var list []criterion
	for _, k := range []struct{ field, value string }{
		{"pod", f.Pod}, {"episode", f.Episode}, {"workload_name", workload}, {"workload_kind", kind}, {"node", f.Node}, {"namespace", f.Namespace},
		{"namespace", budgetNamespace}, {"user", f.User}, {"evictor", f.Evictor}, {"outcome", string(f.Outcome)}, {"policy", f.Policy}, {"budget", budget},
		{"fate", string(f.Fate)},
	} {
		if k.value != "" {
			list = append(list, criterion{k.field, k.value})
		}
	}
	if !f.DryRuns {
		list = append(list, criterion{"dry_run", false})
	}
	return list
}

// clean makes a filter's texts what they are in the store.
func (f Filter) clean() Filter {
	for _, s := range []*string{&f.Namespace, &f.Pod, &f.Workload, &f.Node, &f.Evictor, &f.User, &f.Policy, &f.Budget, &f.Episode} {
		*s = clean(*s)
	}
	f.Outcome, f.Fate = policies.Outcome(clean(string(f.Outcome))), record.Fate(clean(string(f.Fate)))
	return f
}

// subject is a table that can be filtered.
type subject struct {
	// table has an alias, which stands before each column, and at is the column of its time.
	table, alias, at string
	// step is what one row of sums covers; 0 for a single decision or episode.
	step time.Duration
	// columns are those that have the value of a field: one of them must. A field that is in none of the maps does
	// not matter to this table, unless it has sums.
	columns map[string][]string
	// named are the fields that stand in a table of names, as KIND/value: named.of joins its row n to ours.
	named map[string]bool
	names string
	of    string
	// listed are the columns in which a field is one of several, and how it stands there.
	listed map[string]func(value string) (list, member string)
	// found are the fields with an index.
	found map[string]bool
}

var (
	recordTable = &subject{
		table: "records r", alias: "r.", at: "at",
		columns: map[string][]string{
			"pod": {"pod", "episode"}, "episode": {"episode"}, "workload_name": {"workload_name"}, "workload_kind": {"workload_kind"}, "node": {"node"},
			"namespace": {"namespace"}, "user": {"username"}, "evictor": {"evictor"}, "outcome": {"outcome"}, "dry_run": {"dry_run"},
		},
		named: map[string]bool{"policy": true, "budget": true}, names: "record_names", of: "n.at = r.at AND n.id = r.id",
		found: set("pod", "episode", "workload_name", "node", "namespace", "user", "evictor", "outcome", "policy", "budget"),
	}
	episodeTable = &subject{
		table: "episodes e", alias: "e.", at: "last",
		columns: map[string][]string{
			"pod": {"pod", "pod_uid"}, "episode": {"id"}, "workload_name": {"workload_name"}, "workload_kind": {"workload_kind"}, "node": {"node"},
			"namespace": {"namespace"}, "fate": {"fate"},
		},
		named: set("evictor", "user", "policy", "budget", "outcome"), names: "episode_names", of: "n.episode = e.id",
	}
	byDay, byHour = sums("day", day), sums("hour", hour)
	byMinute      = &subject{
		table: "decisions_by_minute c", alias: "c.", at: "minute", step: time.Minute,
		columns: map[string][]string{"outcome": {"outcome"}, "dry_run": {"dry_run"}},
	}
)

// sums is the table of those of a day or an hour.
func sums(at string, step time.Duration) *subject {
	return &subject{
		table: "decisions_by_" + at + " c", alias: "c.", at: at, step: step,
		columns: map[string][]string{
			"workload_name": {"workload_name"}, "workload_kind": {"workload_kind"}, "node": {"node"}, "namespace": {"namespace"}, "user": {"username"},
			"evictor": {"evictor"}, "outcome": {"outcome"}, "dry_run": {"dry_run"},
		},
		listed: map[string]func(string) (string, string){
			"policy": func(name string) (string, string) { return "' ' || c.policies", " " + escape(name) + "=" },
			"budget": func(name string) (string, string) { return "' ' || c.budgets || ' '", " " + escape(name) + " " },
		},
	}
}

func set(fields ...string) map[string]bool {
	m := make(map[string]bool, len(fields))
	for _, f := range fields {
		m[f] = true
	}
	return m
}

// answers reports whether a table of sums has all that a filter asks for.
func (t *subject) answers(f Filter) bool {
	return !slices.ContainsFunc(f.criteria(), func(k criterion) bool {
		return k.field != "fate" && t.columns[k.field] == nil && t.listed[k.field] == nil
	})
}

// name is the criterion's in a table of names.
func (k criterion) name() string { return k.field + "/" + k.value.(string) }

func parameter(n int) string { return "$" + strconv.Itoa(n) }

// condition is a WHERE clause. Values are parameters, never text of the statement.
type condition struct {
	parts []string
	args  []any
}

// and adds a part, in which each ? stands for the next value.
func (c *condition) and(part string, values ...any) {
	for _, v := range values {
		c.args = append(c.args, v)
		part = strings.Replace(part, "?", parameter(len(c.args)), 1)
	}
	c.parts = append(c.parts, part)
}

func (c *condition) between(column string, since, until time.Time) {
	if !since.IsZero() {
		c.and(column+" >= ?", since)
	}
	if !until.IsZero() {
		c.and(column+" < ?", until)
	}
}

func (c *condition) sql() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// meet adds the condition of a criterion. As an expression, no index is used for it.
func (c *condition) meet(t *subject, k criterion, expression string) {
	switch columns := t.columnsOf(k); {
	case columns != nil:
		c.equal(t, columns, k, expression)
	case t.named[k.field]:
		c.and("(SELECT count(*) FROM "+t.names+" n WHERE n.name = ? AND "+t.of+") > 0", k.name())
	case t.listed[k.field] != nil:
		list, member := t.listed[k.field](k.value.(string))
		c.and("replace("+list+", ?, '') <> "+list, member)
	}
}

// columnsOf are those of which one must have a criterion's value. A pod's UID has no slash, and an episode's id has one
// where the UID is not known.
func (t *subject) columnsOf(k criterion) []string {
	columns := t.columns[k.field]
	if text, ok := k.value.(string); ok && k.field == "pod" && strings.Contains(text, "/") {
		columns = columns[:1]
	}
	return columns
}

// equal adds that one of some columns has the value.
func (c *condition) equal(t *subject, columns []string, k criterion, expression string) {
	if _, ok := k.value.(string); !ok {
		expression = ""
	}
	var parts []string
	var values []any
	for _, column := range columns {
		parts, values = append(parts, t.alias+column+expression+" = ?"), append(values, k.value)
	}
	c.and("("+strings.Join(parts, " OR ")+")", values...)
}

// where is the condition of a filter, with its time; which index is used, the database decides.
func (t *subject) where(f Filter) *condition {
	c := &condition{}
	for _, k := range f.criteria() {
		c.meet(t, k, "")
	}
	c.between(t.alias+t.at, f.Since, f.Until)
	return c
}

// chosen says which records a filter chooses; its columns are their times, ids and JSON, and by is the
// table that is sorted by time and id.
type chosen struct {
	columns, from, by string
	condition
}

// counted is up to where rows are counted to find the rarest criterion.
const counted = 30_000

// rows counts the records that a criterion has in the time, up to counted.
func (k criterion) rows(ctx context.Context, q reader, f Filter) (n int, err error) {
	c, from := &condition{}, recordTable.table
	if recordTable.named[k.field] {
		from = recordTable.names + " r"
		c.and("r.name = ?", k.name())
	} else {
		c.meet(recordTable, k, "")
	}
	c.between("r.at", f.Since, f.Until)
	return n, one(ctx, q, &n, "SELECT count(*) FROM (SELECT 1 FROM "+from+c.sql()+" LIMIT "+strconv.Itoa(counted)+") few", c.args)
}

// rarest is the criterion with an index that has the fewest rows: what the planner knows of the values is too rough for
// that. Of two that are both common, the one named first is taken; -1 when there is none.
func rarest(ctx context.Context, q reader, f Filter, list []criterion) (int, error) {
	var found []int
	for i, k := range list {
		if recordTable.found[k.field] {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return -1, nil
	case 1:
		return found[0], nil
	}
	best, fewest := found[0], counted+1
	for _, i := range found {
		n, err := list[i].rows(ctx, q, f)
		if err != nil {
			return best, err
		}
		if n < fewest {
			best, fewest = i, n
		}
	}
	return best, nil
}

// chooseRecords goes along the rarest criterion, newest or oldest first, and looks at each record for the
// others.
func chooseRecords(ctx context.Context, q reader, f Filter) (*chosen, error) {
	list := f.criteria()
	lead, err := rarest(ctx, q, f, list)
	if err != nil {
		return nil, err
	}
	c := &chosen{columns: "r.at, r.id, r.record", from: " FROM records r", by: "r"}
	var along string
	for i, k := range list {
		switch {
		case i == lead && recordTable.named[k.field]:
			along = k.name()
		case i == lead:
			c.meet(recordTable, k, "")
		default:
			c.meet(recordTable, k, " || ''")
		}
	}
	if along != "" {
		c.along(along)
	}
	c.between(c.by+".at", f.Since, f.Until)
	return c, nil
}

// along makes of conditions on records one that goes along the rows of a name. A join would let the planner
// begin at the other end; it has no choice with a count.
func (c *chosen) along(name string) {
	const same = "FROM records r WHERE r.at = m.at AND r.id = m.id"
	c.columns, c.from, c.by = "m.at, m.id, (SELECT r.record "+same+")", " FROM record_names m", "m"
	if len(c.parts) > 0 {
		c.parts = []string{"(SELECT count(*) " + same + " AND " + strings.Join(c.parts, " AND ") + ") > 0"}
	}
	c.and("m.name = ?", name)
}

// common is from how many episodes on a name is.
const common = 5000

// chooseEpisodes is the condition for the episodes e that a filter chooses. Where most have a name, going from the
// latest on finds a page at once, and where few have it, going by the name does; in sums it always does.
func chooseEpisodes(ctx context.Context, q reader, f Filter, page bool) (*condition, error) {
	c := &condition{}
	c.attempted(f.Since, f.Until)
	for _, k := range f.criteria() {
		n := 0
		if page && episodeTable.named[k.field] {
			err := one(ctx, q, &n, "SELECT count(*) FROM (SELECT 1 FROM episode_names WHERE name = $1 LIMIT "+strconv.Itoa(common)+") few", []any{k.name()})
			if err != nil {
				return nil, err
			}
		}
		if episodeTable.named[k.field] && n < common {
			c.and("e.id IN (SELECT n.episode FROM episode_names n WHERE n.name = ?)", k.name())
		} else {
			c.meet(episodeTable, k, "")
		}
	}
	return c, nil
}

// attempted adds that an episode has an attempt in the time. One that began before and ended after needs a
// look at its records.
func (c *condition) attempted(since, until time.Time) {
	if !since.IsZero() {
		c.and("e.last >= ?", since)
	}
	if !until.IsZero() {
		c.and("e.first < ?", until)
	}
	if !since.IsZero() && !until.IsZero() {
		c.and("(e.first >= ? OR e.last < ? OR EXISTS (SELECT 1 FROM records r WHERE r.episode = e.id AND r.at >= ? AND r.at < ? AND NOT r.dry_run))", since, until, since, until)
	}
}
