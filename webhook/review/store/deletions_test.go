package store

import (
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// Most pods are deleted without that anybody tried to evict them.
func TestADeletionEndsAnEpisodeAndMakesNone(t *testing.T) {
	deletion := func(pod, uid string, at time.Duration) record.Answer {
		return record.Answer{ID: "a-" + pod + uid, At: after(at), Verb: record.VerbDelete, Namespace: "shop", Pod: pod, PodUID: uid, Code: 200, User: "admin"}
	}
	refused := records(
		made{pod: "deleted", uid: "u1"}, made{pod: "deleted-by-uid", uid: "u2"}, made{pod: "another-deleted", uid: "u3"},
		made{pod: "uid-not-known"}, made{pod: "deleted-before", uid: "u5"},
	)
	answers := []record.Answer{
		deletion("deleted", "", time.Minute), deletion("deleted-by-uid", "u2", time.Minute), deletion("another-deleted", "other", time.Minute),
		deletion("uid-not-known", "u4", time.Minute), deletion("deleted-before", "", -time.Minute), deletion("never-tried", "", 0), deletion("never-tried", "u6", 0),
	}
	want := map[string]record.Fate{
		"deleted": record.Deleted, "deleted-by-uid": record.Deleted, "another-deleted": record.Blocked, "uid-not-known": record.Deleted, "deleted-before": record.Blocked,
	}
	for name, answersFirst := range map[string]bool{"records first": false, "answers first": true} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
				s := open(t, Options{})
				if !answersFirst {
					add(t, s, refused...)
				}
				if _, err := s.AddAnswers(t.Context(), answers); err != nil {
					t.Fatal(err)
				}
				if answersFirst {
					add(t, s, refused...)
				}
				page, err := s.Episodes(t.Context(), Filter{}, Page{})
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]record.Fate{}
				for _, e := range page.Episodes {
					got[e.Pod] = e.Fate
				}
				equal(t, "fates", want, got)
			})
		})
	}
}
