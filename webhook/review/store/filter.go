package store

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"
)

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

// equal adds that a column has a value, unless that is empty.
func (c *condition) equal(column, value string) {
	if value != "" {
		c.and(column+" = ?", value)
	}
}

func (c *condition) between(column string, since, until time.Time) {
	if !since.IsZero() {
		c.and(column+" >= ?", since.UnixMicro())
	}
	if !until.IsZero() {
		c.and(column+" < ?", until.UnixMicro())
	}
}

// pod adds that a pod has a name or a UID; a UID has no slash.
func (c *condition) pod(pod, uid, value string) {
	switch {
	case value == "":
	case strings.Contains(value, "/"):
		c.and(pod+" = ?", value)
	default:
		c.and("("+pod+" = ? OR "+uid+" = ?)", value, value)
	}
}

// workload adds that a workload has the name, or is the Kind/name.
func (c *condition) workload(prefix, value string) {
	if value == "" {
		return
	}
	if name := workloadName(value); name != "" {
		c.and(prefix+"workload_name = ?", name)
		c.and(prefix+"workload = ?", value)
		return
	}
	c.and(prefix+"workload_name = ?", value)
}

func (c *condition) sql() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// chosen says which records a filter chooses; its columns are their times, ids and bodies, and by is the
// table that is sorted by time and id.
type chosen struct {
	columns, from, by string
	condition
}

// criterion is a part of a filter that an index finds: a column that has a value, or a name of record_names.
type criterion struct {
	columns []string // one of them has the value
	value   string
	name    string
}

func criteria(f Filter) []criterion {
	var list []criterion
	add := func(value string, columns ...string) {
		if value != "" {
			list = append(list, criterion{columns: columns, value: value})
		}
	}
	if strings.Contains(f.Pod, "/") { // a UID has none, and an episode without one has
		add(f.Pod, "pod")
	} else {
		add(f.Pod, "pod", "episode")
	}
	add(f.Episode, "episode")
	add(cmp.Or(workloadName(f.Workload), f.Workload), "workload_name")
	add(f.Node, "node")
	add(f.Namespace, "namespace")
	add(f.User, "username")
	add(f.Evictor, "evictor")
	add(string(f.Outcome), "outcome")
	if f.Policy != "" {
		list = append(list, criterion{name: "policy/" + f.Policy})
	}
	if _, budget := splitBudget(f.Budget); budget != "" {
		list = append(list, criterion{name: "budget/" + budget})
	}
	return list
}

// equals is the condition of a criterion by columns; as an expression, no index is used for it.
func (c *condition) equals(k criterion, expression string) {
	var parts []string
	var values []any
	for _, column := range k.columns {
		parts, values = append(parts, "r."+column+expression+" = ?"), append(values, k.value)
	}
	c.and("("+strings.Join(parts, " OR ")+")", values...)
}

// counted is up to where rows are counted to find the rarest criterion.
const counted = 30_000

// rows counts those that a criterion has in the time, up to counted.
func (k criterion) rows(ctx context.Context, q reader, f Filter) (n int, err error) {
	c := &condition{}
	from := " FROM records r"
	if k.name == "" {
		c.equals(k, "")
	} else {
		from = " FROM record_names r"
		c.and("r.name = ?", k.name)
	}
	c.between("r.at", f.Since, f.Until)
	return n, one(ctx, q, &n, "SELECT count(*) FROM (SELECT 1"+from+c.sql()+" LIMIT "+strconv.Itoa(counted)+") few", c.args)
}

// rarest puts the criterion with the fewest rows first: what the planner knows of the values is too rough
// for that. Of two that are both common, the one named first is taken.
func rarest(ctx context.Context, q reader, f Filter, list []criterion) error {
	if len(list) < 2 {
		return nil
	}
	best, fewest := 0, counted+1
	for i, k := range list {
		n, err := k.rows(ctx, q, f)
		if err != nil {
			return err
		}
		if n < fewest {
			best, fewest = i, n
		}
	}
	list[0], list[best] = list[best], list[0]
	return nil
}

// chooseRecords goes along the rarest criterion, newest or oldest first, and looks at each record for the
// others.
func chooseRecords(ctx context.Context, q reader, f Filter) (*chosen, error) {
	list := criteria(f)
	if err := rarest(ctx, q, f, list); err != nil {
		return nil, err
	}
	c := &chosen{columns: "r.at, r.id, r.body", from: " FROM records r", by: "r"}
	for i, k := range list {
		switch {
		case k.name != "" && i > 0:
			c.and("(SELECT count(*) FROM record_names m WHERE m.name = ? AND m.at = r.at AND m.id = r.id) > 0", k.name)
		case k.name != "":
		case i == 0:
			c.equals(k, "")
		default:
			c.equals(k, " || ''")
		}
	}
	if workloadName(f.Workload) != "" {
		c.and("r.workload = ?", f.Workload)
	}
	if namespace, _ := splitBudget(f.Budget); namespace != "" {
		c.and("r.namespace || '' = ?", namespace)
	}
	if !f.DryRuns {
		c.and("r.dry_run = 0")
	}
	if len(list) > 0 && list[0].name != "" {
		c.along(list[0].name)
	}
	c.between(c.by+".at", f.Since, f.Until)
	return c, nil
}

// along makes of conditions on records one that goes along the rows of a name. A join would let the planner
// begin at the other end; it has no choice with a count.
func (c *chosen) along(name string) {
	const same = "FROM records r WHERE r.at = n.at AND r.id = n.id"
	c.columns, c.from, c.by = "n.at, n.id, (SELECT r.body "+same+")", " FROM record_names n", "n"
	if len(c.parts) > 0 {
		c.parts = []string{"(SELECT count(*) " + same + " AND " + strings.Join(c.parts, " AND ") + ") > 0"}
	}
	c.and("n.name = ?", name)
}

// chosenEpisodes is the condition for the episodes e that a filter chooses.
func chosenEpisodes(f Filter) *condition {
	c := &condition{}
	c.episodes(f)
	for _, name := range f.names() {
		c.and("e.id IN (SELECT n.episode FROM episode_names n WHERE n.name = ?)", name)
	}
	return c
}

// pageOfEpisodes is the same condition for a page: where most have a name, going from the latest on finds
// a page at once, and where few have it, going by the name does.
func pageOfEpisodes(ctx context.Context, q reader, f Filter) (*condition, error) {
	c := &condition{}
	c.episodes(f)
	for _, name := range f.names() {
		n := 0
		err := one(ctx, q, &n, "SELECT count(*) FROM (SELECT 1 FROM episode_names WHERE name = $1 LIMIT "+strconv.Itoa(common)+") few", []any{name})
		switch {
		case err != nil:
			return nil, err
		case n < common:
			c.and("e.id IN (SELECT n.episode FROM episode_names n WHERE n.name = ?)", name)
		default:
			c.and("(SELECT count(*) FROM episode_names n WHERE n.name = ? AND n.episode = e.id) > 0", name)
		}
	}
	return c, nil
}

// common is from how many episodes on a name is.
const common = 5000

// episodes adds what stands in the episode's row.
func (c *condition) episodes(f Filter) {
	c.attempted(f.Since, f.Until)
	c.equal("e.namespace", f.Namespace)
	c.pod("e.pod", "e.pod_uid", f.Pod)
	c.workload("e.", f.Workload)
	c.equal("e.node", f.Node)
	c.equal("e.fate", string(f.Fate))
	c.equal("e.id", f.Episode)
	namespace, _ := splitBudget(f.Budget)
	c.equal("e.namespace", namespace)
}

// names are those of episode_names that a filter asks for.
func (f *Filter) names() []string {
	_, budget := splitBudget(f.Budget)
	var names []string
	for _, n := range []struct{ kind, value string }{
		{"evictor/", f.Evictor}, {"user/", f.User}, {"policy/", f.Policy}, {"outcome/", string(f.Outcome)}, {"budget/", budget},
	} {
		if n.value != "" {
			names = append(names, n.kind+n.value)
		}
	}
	return names
}

// attempted adds that an episode has an attempt in the time. One that began before and ended after needs a
// look at its records.
func (c *condition) attempted(since, until time.Time) {
	if !since.IsZero() {
		c.and("e.last >= ?", since.UnixMicro())
	}
	if !until.IsZero() {
		c.and("e.first < ?", until.UnixMicro())
	}
	if !since.IsZero() && !until.IsZero() {
		s, u := since.UnixMicro(), until.UnixMicro()
		c.and("(e.first >= ? OR e.last < ? OR EXISTS (SELECT 1 FROM records r WHERE r.episode = e.id AND r.at >= ? AND r.at < ? AND r.dry_run = 0))", s, u, s, u)
	}
}
