package review

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Story is what is known about a decision or an eviction: an episode, a decision, or a decision with its episode.
type Story struct {
	Record  *record.Record
	Episode *record.Episode
	// Whole says that the episode is asked for; Record is the last of it.
	Whole bool
}

// Finder is where a story is looked up; a store is one.
type Finder interface {
	Record(ctx context.Context, id string) (record.Record, error)
	Episode(ctx context.Context, id string) (record.Episode, error)
	List(ctx context.Context, f store.Filter, p store.Page) (store.Rows, error)
	Episodes(ctx context.Context, f store.Filter, p store.Page) (store.Episodes, error)
	Find(ctx context.Context, prefix string, limit int) (decisions, episodes []string, err error)
}

// FindStory takes the id for that of a decision, of an episode, for a pod's name, and for the beginning of
// an id, in this order.
func FindStory(ctx context.Context, from Finder, id string) (Story, error) {
	for _, find := range []func(context.Context, Finder, string) (Story, error){decisionStory, episodeStory, podStory, beginningStory} {
		s, err := find(ctx, from, id)
		if !errors.Is(err, store.ErrNotFound) {
			return s, err
		}
	}
	return Story{}, fmt.Errorf("there is no decision, pod UID or pod %q; evictgate review list --since all shows what there is", id)
}

func decisionStory(ctx context.Context, from Finder, id string) (Story, error) {
	record, err := from.Record(ctx, id)
	if err != nil {
		return Story{}, err
	}
	s := Story{Record: &record}
	episode, err := from.Episode(ctx, record.EpisodeID())
	if err == nil {
		s.Episode = &episode
	} else if errors.Is(err, store.ErrNotFound) { // a dry run has none
		err = nil
	}
	return s, err
}

func episodeStory(ctx context.Context, from Finder, id string) (Story, error) {
	episode, err := from.Episode(ctx, id)
	if err != nil {
		return Story{}, err
	}
	s := Story{Episode: &episode, Whole: true}
	rows, err := from.List(ctx, store.Filter{Episode: episode.ID}, store.Page{Limit: 1})
	if err != nil || len(rows.Rows) == 0 {
		return s, err
	}
	record, err := from.Record(ctx, rows.Rows[0].ID)
	if err == nil {
		s.Record = &record
	} else if errors.Is(err, store.ErrNotFound) { // removed in between
		err = nil
	}
	return s, err
}

// podStory is the latest episode of a pod, whose name may come without its namespace.
func podStory(ctx context.Context, from Finder, name string) (Story, error) {
	filter := store.Filter{Pod: name}
	if namespace, pod, ok := strings.Cut(name, "/"); ok {
		filter.Namespace, filter.Pod = namespace, pod
	}
	episodes, err := from.Episodes(ctx, filter, store.Page{Limit: maxCandidates})
	if err != nil {
		return Story{}, err
	}
	var namespaces []string
	for _, e := range episodes.Episodes {
		if !slices.Contains(namespaces, e.Namespace) {
			namespaces = append(namespaces, e.Namespace)
		}
	}
	switch len(namespaces) {
	case 0:
		return Story{}, store.ErrNotFound
	case 1:
		return episodeStory(ctx, from, episodes.Episodes[0].ID)
	}
	return Story{}, fmt.Errorf("a pod %q is in the namespaces %s; give NAMESPACE/%s", name, strings.Join(namespaces, ", "), name)
}

// maxCandidates bounds what an ambiguous name is looked up for.
const maxCandidates = 20

// maxNamed bounds those that are named.
const maxNamed = 5

func beginningStory(ctx context.Context, from Finder, prefix string) (Story, error) {
	decisions, episodes, err := from.Find(ctx, prefix, maxNamed+1)
	if err != nil {
		return Story{}, err
	}
	switch all := slices.Concat(decisions, episodes); {
	case len(all) == 0:
		return Story{}, store.ErrNotFound
	case len(all) > 1:
		return Story{}, fmt.Errorf("%q is the beginning of more than one id: %s", prefix, named(all))
	case len(decisions) == 1:
		return decisionStory(ctx, from, decisions[0])
	}
	return episodeStory(ctx, from, episodes[0])
}

func named(ids []string) string {
	if len(ids) <= maxNamed {
		return strings.Join(ids, ", ")
	}
	return strings.Join(ids[:maxNamed], ", ") + " and more"
}
