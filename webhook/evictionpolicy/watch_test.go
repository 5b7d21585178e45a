package evictionpolicy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies/source"
)

// offline is a Watch over what the test puts into its store; nobody is asked.
func offline(t *testing.T, take func(context.Context, []source.Unit)) *Watch {
	t.Helper()
	w, err := NewWatch(&rest.Config{Host: "https://no-cluster.invalid"}, slog.New(slog.DiscardHandler), take)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func put(t *testing.T, w *Watch, name string, generation int64, created time.Time) *unstructured.Unstructured {
	t.Helper()
	o := evp(t, name, "library: freeze_window")
	o.SetGeneration(generation)
	o.SetCreationTimestamp(metav1.Time{Time: created})
	if err := w.informer.GetStore().Add(o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTheOlderPolicyComesFirst(t *testing.T) {
	var got [][]string
	w := offline(t, func(_ context.Context, units []source.Unit) {
		var names []string
		for _, u := range units {
			names = append(names, strings.TrimPrefix(u.Name, "EvictionPolicy/"))
		}
		got = append(got, names)
	})
	if err := w.Ready(nil); !errors.Is(err, errNotRead) {
		t.Errorf("ready before it has read: %v", err)
	}
	w.handOver(t.Context())
	put(t, w, "b", 1, noon)
	put(t, w, "c", 1, noon)
	put(t, w, "a", 1, noon.Add(time.Second))
	w.handOver(t.Context())
	put(t, w, "c", 1, noon).SetLabels(map[string]string{"team": "shop"}) // no change
	w.handOver(t.Context())
	put(t, w, "c", 2, noon)
	w.handOver(t.Context())
	if diff := cmp.Diff([][]string{nil, {"b", "c", "a"}, {"b", "c", "a"}}, got); diff != "" {
		t.Errorf("hand-overs (-want +got):\n%s", diff)
	}
	if err := w.Ready(nil); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestAHandOverThatPanicsOrIsCutShortStatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fails := true
	w := offline(t, func(context.Context, []source.Unit) {
		if fails {
			panic("oops")
		}
		cancel()
	})
	put(t, w, "a", 1, noon)
	w.handOver(ctx)
	fails = false
	w.handOver(ctx)
	if w.Ready(nil) == nil || w.handed != nil {
		t.Errorf("ready, with %v", w.handed)
	}
	w.handOver(t.Context()) // the next one is tried again
	if err := w.Ready(nil); err != nil || len(w.handed) != 1 {
		t.Errorf("%v, with %v", err, w.handed)
	}
}
