package store

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// episodeName is a row of episode_names.
type episodeName struct{ name, episode string }

// folding are the episodes that a transaction touches, without loose answers: those are laid over them
// anew each time, so that what came first does not matter.
type folding struct {
	bases map[string]*record.Episode
	// stored are those that the database has.
	stored map[string]bool
	// named are the rows that episode_names is to have; true for those that it has.
	named map[episodeName]bool
}

// load gets episodes, as they are without loose answers.
func (s *Store) load(ctx context.Context, r reader, ids []string) (*folding, error) {
	f := &folding{bases: map[string]*record.Episode{}, stored: map[string]bool{}, named: map[episodeName]bool{}}
	in, arg := r.in("id", 1, ids)
	return f, s.loadWhere(ctx, r, f, in, arg)
}

func (s *Store) loadWhere(ctx context.Context, r reader, f *folding, where string, arg any) error {
	return r.query(ctx, func(scan func(...any) error) error {
		var id string
		var text, base []byte
		if err := scan(&id, &text, &base); err != nil {
			return err
		}
		if f.bases[id] != nil {
			return nil
		}
		if len(base) > 0 {
			text = base
		}
		e := &record.Episode{}
		f.bases[id], f.stored[id] = e, true
		err := json.Unmarshal(text, e)
		for _, name := range episodeNames(e) {
			f.named[episodeName{name, id}] = true
		}
		return err
	}, "SELECT id, episode, base FROM episodes WHERE "+where, arg)
}

// episode is that of an id, a new one where there is none.
func (f *folding) episode(id string) *record.Episode {
	if f.bases[id] == nil {
		f.bases[id] = &record.Episode{}
	}
	return f.bases[id]
}

// name adds the names of a record to its episode: what the episode lists is bounded, and may lack some.
func (f *folding) name(e *entry) {
	names := map[string]bool{}
	attemptNames(names, e.record.Request.Evictor, e.record.Request.User.Username)
	replyNames(names, &e.reply)
	for name := range names {
		if n := (episodeName{name, e.episode}); !f.named[n] {
			f.named[n] = false
		}
	}
}

// foldRecords adds new records to their episodes, and the answers to them that were there before.
func (s *Store) foldRecords(ctx context.Context, w writer, fresh []*entry) error {
	episodes, reviews := map[string]bool{}, map[string]string{}
	for _, e := range fresh {
		if !e.dryRun {
			episodes[e.episode], reviews[e.id] = true, e.episode
		}
	}
	if len(episodes) == 0 {
		return nil
	}
	f, err := s.load(ctx, w, slices.Collect(maps.Keys(episodes)))
	if err != nil {
		return err
	}
	for _, e := range fresh {
		if !e.dryRun {
			f.episode(e.episode).AddReply(e.record, e.reply)
			f.name(e)
		}
	}
	in, arg := w.in("review_uid", 1, slices.Collect(maps.Keys(reviews)))
	err = s.eachAnswer(ctx, w, func(a record.Answer) error {
		f.episode(reviews[clean(a.ReviewUID)]).Answered(a)
		return nil
	}, "SELECT answer FROM answers WHERE review_uid <> '' AND "+in, arg)
	if err != nil {
		return err
	}
	return s.save(ctx, w, f)
}

func (s *Store) eachAnswer(ctx context.Context, r reader, each func(record.Answer) error, sql string, args ...any) error {
	return r.query(ctx, func(scan func(...any) error) error {
		var text []byte
		if err := scan(&text); err != nil {
			return err
		}
		var a record.Answer
		if err := json.Unmarshal(text, &a); err != nil {
			return err
		}
		return each(a)
	}, sql, args...)
}

// save lays the loose answers over what was folded, and writes it.
func (s *Store) save(ctx context.Context, w writer, f *folding) error {
	var loose []record.Answer
	pods := f.pods()
	in, arg := w.in("pod", 1, slices.Collect(maps.Values(pods)))
	err := s.eachAnswer(ctx, w, func(a record.Answer) error {
		if _, ours := pods[place(a.Namespace, a.Pod)]; ours {
			loose = append(loose, a)
		}
		return nil
	}, "SELECT answer FROM answers WHERE loose AND "+in, arg)
	if err != nil {
		return err
	}
	if len(loose) > 0 { // the other episodes of those pods may have to give or take some
		in, arg := w.in("pod", 1, podsOf(loose))
		if err := s.loadWhere(ctx, w, f, in, arg); err != nil {
			return err
		}
		maps.DeleteFunc(f.bases, func(_ string, e *record.Episode) bool { // pods of the same name elsewhere
			_, ours := pods[place(e.Namespace, e.Pod)]
			return !ours
		})
	}
	return s.writeEpisodes(ctx, w, f, lay(f.bases, loose))
}

func place(namespace, pod string) string { return clean(namespace) + "/" + clean(pod) }

// pods has the name of each pod by its place.
func (f *folding) pods() map[string]string {
	pods := map[string]string{}
	for _, e := range f.bases {
		pods[place(e.Namespace, e.Pod)] = clean(e.Pod)
	}
	return pods
}

func podsOf(answers []record.Answer) []string {
	pods := map[string]bool{}
	for _, a := range answers {
		pods[clean(a.Pod)] = true
	}
	return slices.Collect(maps.Keys(pods))
}

// lay gives each loose answer to the latest episode of its pod that had begun and was not over by then,
// else to that of namespace/name; a deletion is then left out: most pods go without an eviction. It returns the episodes that have some; the bases stay as they are.
func lay(bases map[string]*record.Episode, loose []record.Answer) map[string]*record.Episode {
	laid, byPlace := map[string]*record.Episode{}, map[string][]string{}
	for id, e := range bases {
		byPlace[place(e.Namespace, e.Pod)] = append(byPlace[place(e.Namespace, e.Pod)], id)
	}
	slices.SortFunc(loose, func(a, b record.Answer) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID)) })
	for _, a := range loose {
		at := place(a.Namespace, a.Pod)
		id := taker(bases, laid, byPlace[at], a)
		switch {
		case id != "":
		case a.Verb == record.VerbDelete:
			continue
		default:
			id = at
		}
		if laid[id] == nil {
			laid[id] = copyOf(bases[id])
			if !slices.Contains(byPlace[at], id) {
				byPlace[at] = append(byPlace[at], id)
			}
		}
		laid[id].Answered(a)
	}
	return laid
}

// taker is the latest of a pod's episodes that had begun and was not over when the answer was given; empty
// when there is none.
func taker(bases, laid map[string]*record.Episode, ids []string, a record.Answer) string {
	var best string
	var first time.Time
	for _, id := range ids {
		e := cmp.Or(laid[id], bases[id])
		if empty(e) || e.First.After(a.At) || overBy(e, a.At) || isAnother(e, a.PodUID) {
			continue
		}
		if c := e.First.Compare(first); best == "" || c > 0 || (c == 0 && id > best) {
			best, first = id, e.First
		}
	}
	return best
}

// isAnother reports whether the episode is known to be that of another pod.
func isAnother(e *record.Episode, uid string) bool {
	return uid != "" && e.PodUID != "" && e.PodUID != uid
}

// overBy reports whether the pod of an episode was gone or on its way at a time.
func overBy(e *record.Episode, at time.Time) bool {
	ends := make([]time.Time, 0, 5)
	for _, a := range []*record.Answer{e.Eviction, e.Deletion} {
		if a != nil {
			ends = append(ends, a.At)
		}
	}
	if s := e.Sighting; s != nil {
		ends = append(ends, s.Terminating, s.Finished, s.Gone)
	}
	return slices.ContainsFunc(ends, func(end time.Time) bool { return !end.IsZero() && !end.After(at) })
}

// copyOf is an episode to fold into while the base stays: folding replaces slices and maps but for these.
func copyOf(e *record.Episode) *record.Episode {
	if e == nil {
		return &record.Episode{}
	}
	c := *e
	c.Outcomes = maps.Clone(e.Outcomes)
	c.Evictors, c.Replies = slices.Clone(e.Evictors), slices.Clone(e.Replies)
	return &c
}

var episodeColumns = []string{
	"id", "namespace", "pod", "pod_uid", "node", "workload_kind", "workload_name", "fate", "first", "last", "first_refused", "blocked_by", "episode", "base",
}

func (s *Store) writeEpisodes(ctx context.Context, w writer, f *folding, laid map[string]*record.Episode) error {
	bases, ids := f.bases, maps.Clone(f.bases)
	maps.Copy(ids, laid)
	var rows [][]any
	var over []string
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		e := cmp.Or(laid[id], bases[id])
		if empty(e) {
			if f.stored[id] {
				over = append(over, id)
			}
			continue
		}
		row, err := episodeRow(id, e, bases[id], laid[id] != nil)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if err := s.forget(ctx, w, over); err != nil {
		return err
	}
	if err := put(ctx, w, "episodes", episodeColumns, 1, rows); err != nil {
		return err
	}
	var names [][]any
	for n, stored := range f.named {
		if !stored {
			names = append(names, []any{n.name, n.episode})
		}
	}
	return put(ctx, w, "episode_names", []string{"name", "episode"}, 2, names)
}

// empty reports whether nothing was tried: an episode that gave its loose answers to another.
func empty(e *record.Episode) bool {
	return e.Attempts == 0 && e.Unseen == 0 && e.Eviction == nil && e.Refusal == nil
}

func (s *Store) forget(ctx context.Context, w writer, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for table, column := range map[string]string{"episodes": "id", "episode_names": "episode"} {
		in, arg := w.in(column, 1, ids)
		if _, err := w.exec(ctx, "DELETE FROM "+table+" WHERE "+in, arg); err != nil {
			return err
		}
	}
	return nil
}

func episodeRow(id string, e, base *record.Episode, isLaid bool) ([]any, error) {
	text, err := marshal(e)
	if err != nil {
		return nil, err
	}
	var baseText any // NULL
	if isLaid {
		if base == nil {
			base = &record.Episode{Namespace: e.Namespace, Pod: e.Pod}
		}
		if baseText, err = marshal(base); err != nil {
			return nil, err
		}
	}
	kind, workload := splitWorkload(clean(e.Workload))
	return []any{
		id, clean(e.Namespace), clean(e.Pod), clean(e.PodUID), clean(e.Node), kind, workload, string(e.Fate),
		kept(e.First), kept(e.Last), orNull(e.FirstRefused), blockedBy(e), text, baseText,
	}, nil
}

// maxBlockers bounds blocked_by, which is in an index.
const maxBlockers = 3

// blockedBy is what refuses still, a line each: its kind and its name.
func blockedBy(e *record.Episode) string {
	if e.Fate != record.Blocked || e.Latest == nil {
		return ""
	}
	var lines []string
	for _, b := range blockersOf(e.Namespace, e.Latest) {
		lines = append(lines, string(b.kind)+" "+strings.ReplaceAll(b.name, "\n", " "))
	}
	return strings.Join(lines[:min(len(lines), maxBlockers)], "\n")
}

func parseBlockers(lines string) []blocker {
	var list []blocker
	for line := range strings.Lines(lines) {
		if kind, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			list = append(list, blocker{record.BlockerKind(kind), name})
		}
	}
	return list
}

// blockersOf are what refused in a reply, as they are told from the columns of a record.
func blockersOf(namespace string, r *record.Reply) []blocker {
	did := refused
	if r.Kind == record.ByFailure {
		did = undid
	}
	parts := make([]part, len(r.Policies))
	for i, p := range r.Policies {
		parts[i] = part{clean(p), did}
	}
	f := facts{namespace: clean(namespace), refused: true, policies: joinParts(parts), budgets: joinNames(r.Budgets)}
	return f.blockers()
}

// episodeNames are the keys under which episode_names has what an episode lists.
func episodeNames(e *record.Episode) []string {
	names := map[string]bool{}
	for _, a := range e.Evictors {
		attemptNames(names, a.Evictor, a.User)
	}
	for i := range e.Replies {
		replyNames(names, &e.Replies[i])
	}
	for o := range e.Outcomes {
		names["outcome/"+clean(string(o))] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func attemptNames(names map[string]bool, evictor, user string) {
	names["evictor/"+clean(evictor)], names["user/"+clean(user)] = true, true
}

func replyNames(names map[string]bool, r *record.Reply) {
	for _, p := range r.Policies {
		names["policy/"+clean(p)] = true
	}
	for _, b := range r.Budgets {
		names["budget/"+budgetName(clean(b))] = true
	}
	names["outcome/"+clean(string(r.Outcome))] = true
}
