package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/evictgate/evictgate/webhook/record"
)

// AddAnswers stores how the API server answered, in one transaction, and folds it into the episodes. An
// answer is known by its id and its time.
func (s *Store) AddAnswers(ctx context.Context, answers []record.Answer) (Added, error) {
	byKey := map[string]record.Answer{}
	for _, a := range answers {
		if a.ID == "" {
			return Added{}, errors.New("an answer has no id")
		}
		a.At = a.At.UTC().Round(0)
		byKey[answerKey(a)] = a
	}
	if len(byKey) == 0 {
		return Added{}, nil
	}
	var fresh []string
	err := s.write(ctx, func(w writer) error {
		keys := slices.Sorted(maps.Keys(byKey))
		known, err := texts(ctx, w, "SELECT id FROM answers WHERE ", "id", keys)
		if err != nil {
			return err
		}
		fresh = slices.DeleteFunc(keys, func(k string) bool { return known[k] })
		if len(fresh) == 0 {
			return nil
		}
		list := make([]record.Answer, len(fresh))
		for i, k := range fresh {
			list[i] = byKey[k]
		}
		if err := insertAnswers(ctx, w, list); err != nil {
			return fmt.Errorf("store answers: %w", err)
		}
		return s.foldAnswers(ctx, w, list)
	})
	if err != nil {
		return Added{}, err
	}
	s.took(len(fresh), 0)
	return Added{New: len(fresh), Known: len(answers) - len(fresh)}, nil
}

func answerKey(a record.Answer) string {
	return clean(a.ID) + "@" + strconv.FormatInt(a.At.UnixMicro(), 10)
}

// folds reports whether an answer has a part in an episode.
func folds(a record.Answer) bool { return !a.DryRun && a.Passage != record.NotCalled }

// isLoose reports whether the answer itself does not say which episode it belongs to. A deletion never does:
// it ends an episode, and makes none.
func isLoose(a record.Answer) bool {
	return folds(a) && a.ReviewUID == "" && (a.PodUID == "" || a.Verb == record.VerbDelete)
}

func insertAnswers(ctx context.Context, w writer, answers []record.Answer) error {
	rows := make([][]any, len(answers))
	for i, a := range answers {
		text, err := marshal(a)
		if err != nil {
			return fmt.Errorf("answer %q: %w", a.ID, err)
		}
		if err := json.Unmarshal([]byte(text), &answers[i]); err != nil { // with what is not a character replaced
			return err
		}
		rows[i] = []any{
			answerKey(a), kept(a.At), clean(string(a.Verb)), clean(string(a.Passage)), clean(a.Namespace), clean(a.Pod), clean(a.ReviewUID), isLoose(a), text,
		}
	}
	return w.insert(ctx, "answers", []string{"id", "at", "verb", "passage", "namespace", "pod", "review_uid", "loose", "answer"}, rows)
}

// foldAnswers gives each answer to its episode: that of the decision it names, which may come later; that
// of the pod's UID; or, being loose, that which save finds.
func (s *Store) foldAnswers(ctx context.Context, w writer, answers []record.Answer) error {
	reviewed, err := s.reviewed(ctx, w, answers)
	if err != nil {
		return err
	}
	owner := make([]string, len(answers))
	ids := map[string]bool{}
	for i, a := range answers {
		switch {
		case !folds(a):
		case a.ReviewUID != "":
			owner[i] = reviewed[clean(a.ReviewUID)]
		case !isLoose(a):
			owner[i] = clean(a.PodUID)
		default: // save looks at the pod's place
			owner[i] = place(a.Namespace, a.Pod)
		}
		if owner[i] != "" {
			ids[owner[i]] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	f, err := s.load(ctx, w, slices.Collect(maps.Keys(ids)))
	if err != nil {
		return err
	}
	for i, a := range answers {
		switch {
		case owner[i] == "":
		case isLoose(a):
			f.touch(owner[i], a)
		default:
			f.episode(owner[i]).Answered(a)
		}
	}
	return s.save(ctx, w, f)
}

// touch makes save look at the answer's pod.
func (f *folding) touch(id string, a record.Answer) {
	if e := f.episode(id); e.ID == "" {
		e.Namespace, e.Pod = a.Namespace, a.Pod
	}
}

// reviewed has the episode of each decision that answers name, if it has one.
func (s *Store) reviewed(ctx context.Context, r reader, answers []record.Answer) (map[string]string, error) {
	var ids []string
	for _, a := range answers {
		if a.ReviewUID != "" {
			ids = append(ids, clean(a.ReviewUID))
		}
	}
	episodes := map[string]string{}
	if len(ids) == 0 {
		return episodes, nil
	}
	in, arg := r.in("d.id", 1, ids)
	return episodes, r.query(ctx, func(scan func(...any) error) error {
		var id, episode string
		err := scan(&id, &episode)
		episodes[id] = episode
		return err
	}, "SELECT r.id, r.episode FROM decisions d JOIN records r ON r.at = d.at AND r.id = d.id WHERE NOT r.dry_run AND "+in, arg)
}

// AddSightings folds in what the watch saw of pods; those without an episode are left out.
func (s *Store) AddSightings(ctx context.Context, sightings []record.Sighting) error {
	if len(sightings) == 0 {
		return nil
	}
	ids := map[string]bool{}
	for _, g := range sightings {
		ids[clean(g.PodUID)], ids[place(g.Namespace, g.Pod)] = true, true
	}
	delete(ids, "")
	return s.write(ctx, func(w writer) error {
		f, err := s.load(ctx, w, slices.Collect(maps.Keys(ids)))
		if err != nil || len(f.bases) == 0 {
			return err
		}
		for _, g := range sightings {
			f.see(g)
		}
		return s.save(ctx, w, f)
	})
}

// see gives a sighting to the episode of the pod's UID, and to that of a pod of this name whose UID nobody
// knows, as long as it is not over: it was this one.
func (f *folding) see(g record.Sighting) {
	g.Terminating, g.Finished, g.Gone = g.Terminating.UTC().Round(0), g.Finished.UTC().Round(0), g.Gone.UTC().Round(0)
	if e := f.bases[clean(g.PodUID)]; e != nil && g.PodUID != "" {
		e.See(g)
	}
	at := place(g.Namespace, g.Pod)
	e := f.bases[at]
	if e == nil || at == clean(g.PodUID) || (e.Sighting != nil && e.Sighting.PodUID != g.PodUID) {
		return
	}
	if e.ID == "" {
		e.ID, e.Namespace, e.Pod = at, g.Namespace, g.Pod
	}
	e.See(g)
}
