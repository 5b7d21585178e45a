package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// showFlags are the flags of review show.
type showFlags struct {
	reviewFlags
	input bool
}

func newReviewShow(p printer) *cobra.Command {
	var f showFlags
	cmd := &cobra.Command{
		Use:   "show ID | NAMESPACE/POD",
		Short: "Tell the story of one decision, or of all tries to evict a pod",
		Long: `Show tells one decision (by its id), or all tries to evict one pod (by the pod's UID, by NAMESPACE/POD
or by its name, which is its latest episode): who tried what, when and how often, what they were told and
why, what became of the pod and how that is known, and what unblocks it. The beginning of an id will do,
if no other begins so.`,
		Example: `  evictgate review show shop/api-7d4b9c6f5-4c8tr
  evictgate review show 03fd39c3 --input
  kubectl logs -n evictgate deploy/evictgate | evictgate review show --from - shop/api-7d4b9c6f5-4c8tr`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args[0], p)
		},
	}
	flags := cmd.Flags()
	f.reviewFlags.add(flags, "table, json or yaml")
	flags.BoolVar(&f.input, "input", false, "also what the policies were given, as JSON")
	return cmd
}

// story is what review show tells: an episode, a decision, or a decision with its episode.
type story struct {
	record  *record.Record
	episode *record.Episode
	clock   clock
	again   string
	input   bool
	// whole says that the episode is asked for; record is the last of it.
	whole bool
}

func (f *showFlags) run(ctx context.Context, id string, p printer) error {
	if err := oneOf("output", f.format, "table", "json", "yaml"); err != nil {
		return err
	}
	if id == "" {
		return errors.New("give the id of a decision, a pod UID, or NAMESPACE/POD")
	}
	c, err := f.clock()
	if err != nil {
		return err
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	s, err := findStory(ctx, from, id)
	if err != nil {
		return err
	}
	s.clock, s.again, s.input = c, f.again(), f.input
	return p.reviewStory(f.format, s)
}

// finder is where a story is looked up; a store is one.
type finder interface {
	Record(ctx context.Context, id string) (record.Record, error)
	Episode(ctx context.Context, id string) (record.Episode, error)
	List(ctx context.Context, f store.Filter, p store.Page) (store.Rows, error)
	Episodes(ctx context.Context, f store.Filter, p store.Page) (store.Episodes, error)
	Find(ctx context.Context, prefix string, limit int) (decisions, episodes []string, err error)
}

// findStory takes the id for that of a decision, of an episode, for a pod's name, and for the beginning of
// an id, in this order.
func findStory(ctx context.Context, from finder, id string) (story, error) {
	for _, find := range []func(context.Context, finder, string) (story, error){decisionStory, episodeStory, podStory, beginningStory} {
		s, err := find(ctx, from, id)
		if !errors.Is(err, store.ErrNotFound) {
			return s, err
		}
	}
	return story{}, fmt.Errorf("there is no decision, pod UID or pod %q; evictgate review list --since all shows what there is", id)
}

func decisionStory(ctx context.Context, from finder, id string) (story, error) {
	record, err := from.Record(ctx, id)
	if err != nil {
		return story{}, err
	}
	s := story{record: &record}
	episode, err := from.Episode(ctx, record.EpisodeID())
	if err == nil {
		s.episode = &episode
	} else if errors.Is(err, store.ErrNotFound) { // a dry run has none
		err = nil
	}
	return s, err
}

func episodeStory(ctx context.Context, from finder, id string) (story, error) {
	episode, err := from.Episode(ctx, id)
	if err != nil {
		return story{}, err
	}
	s := story{episode: &episode, whole: true}
	rows, err := from.List(ctx, store.Filter{Episode: episode.ID}, store.Page{Limit: 1})
	if err != nil || len(rows.Rows) == 0 {
		return s, err
	}
	record, err := from.Record(ctx, rows.Rows[0].ID)
	if err == nil {
		s.record = &record
	} else if errors.Is(err, store.ErrNotFound) { // removed in between
		err = nil
	}
	return s, err
}

// podStory is the latest episode of a pod, whose name may come without its namespace.
func podStory(ctx context.Context, from finder, name string) (story, error) {
	filter := store.Filter{Pod: name}
	if namespace, pod, ok := strings.Cut(name, "/"); ok {
		filter.Namespace, filter.Pod = namespace, pod
	}
	episodes, err := from.Episodes(ctx, filter, store.Page{Limit: maxCandidates})
	if err != nil {
		return story{}, err
	}
	var namespaces []string
	for _, e := range episodes.Episodes {
		namespaces = render.AddOnce(namespaces, e.Namespace)
	}
	switch len(namespaces) {
	case 0:
		return story{}, store.ErrNotFound
	case 1:
		return episodeStory(ctx, from, episodes.Episodes[0].ID)
	}
	return story{}, fmt.Errorf("a pod %q is in the namespaces %s; give NAMESPACE/%s", name, strings.Join(namespaces, ", "), name)
}

// maxCandidates bounds what an ambiguous name is looked up for.
const maxCandidates = 20

// maxNamed bounds those that are named.
const maxNamed = 5

func beginningStory(ctx context.Context, from finder, prefix string) (story, error) {
	decisions, episodes, err := from.Find(ctx, prefix, maxNamed+1)
	if err != nil {
		return story{}, err
	}
	switch all := slices.Concat(decisions, episodes); {
	case len(all) == 0:
		return story{}, store.ErrNotFound
	case len(all) > 1:
		return story{}, fmt.Errorf("%q is the beginning of more than one id: %s", prefix, named(all))
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
