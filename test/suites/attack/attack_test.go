package attack

import (
	"slices"
	"sync"
	"testing"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// attack is one way to hurt the gate.
type attack struct {
	// name begins with the row that it had when it was found, in the order of severity.
	name string
	// what is sent, for the page, and remains what must hold.
	what, remains string
	// cluster is set for those that need an API server.
	cluster bool
	run     func(*stage)
}

// world is what all attacks share.
type world struct {
	sinkOnce sync.Once
	sinkAt   string
	parent   *testing.T

	planeOnce sync.Once
	shared    *plane
}

// sink is the address of a server that does nothing with what it gets.
func (w *world) sink(t *testing.T) string {
	t.Helper()
	w.sinkOnce.Do(func() { w.sinkAt = startSink(w.parent) })
	return w.sinkAt
}

// attacks are all, in the order of the page.
var attacks = slices.Concat(clusterAttacks(), serverAttacks(), programAttacks())

func TestAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	w := &world{parent: t}
	var rows []*row
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			if a.cluster {
				kube.Need(t)
			}
			r := &row{attack: a}
			rows = append(rows, r)
			defer func() { r.failed = t.Failed() }()
			a.run(&stage{T: t, world: w, row: r})
		})
	}
	t.Logf("\n%s", plain(rows))
	document(t, rows)
}
