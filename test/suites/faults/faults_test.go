package faults

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/postgres"
	"github.com/evictgate/evictgate/webhook/record"
)

var (
	// update writes docs/faults.md with the figures of this run.
	update = flag.Bool("update", false, "write docs/faults.md")
	// duration is how long evictions go on before and after a fault, while nothing happens.
	duration = flag.Duration("duration", 2*time.Second, "how long evictions go on before and after each fault")
	away     = flag.Duration("away", 5*time.Second, "how long the API server is away")
)

const (
	nodes    = 3
	replicas = 3
)

// world is the control plane and what all scenarios share.
type world struct {
	plane  *kube.ControlPlane
	dir    string
	binary string
	scene  *scene
	rows   []row

	// database and disk are of the groups with a store.
	database *postgres.Server
	disk     string
	// issuer is of the group whose certificates come from files.
	issuer *issuer
}

// stage is one scenario's part: its replicas and its load.
type stage struct {
	*world
	*testing.T
	group    *gate.Group
	policies string // the directory
	load     *load
	knocker  *knocker
	recorded int
	// lasted is how long the fault itself lasts, when run goes on after it.
	lasted time.Duration
}

func TestFaults(t *testing.T) {
	kube.Need(t)
	if testing.Short() {
		t.Skip("takes minutes")
	}
	w := newWorld(t)
	groups := map[string][]scenario{}
	for _, s := range scenarios {
		groups[s.group] = append(groups[s.group], s)
	}
	for _, name := range []string{"", "short leaf", "files", "http/2", "postgres", "full disk"} {
		w.inGroup(t, name, groups[name])
	}
	t.Log("\n" + plain(w.rows))
	w.document(t)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	var err error
	w.binary, err = gate.Build(w.dir)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w.plane, err = kube.Start(ctx, kube.Options{Controllers: true, Kwok: true, Nodes: nodes})
	must(t, err)
	t.Cleanup(func() {
		if err := w.plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	must(t, w.plane.InstallCRDs(ctx))
	t.Cleanup(func() {
		w.unmount(t)
		_ = w.database.Stop()
	})
	w.scene = newScene(t, w.plane)
	return w
}

// inGroup runs scenarios one after the other over the same replicas.
func (w *world) inGroup(t *testing.T, name string, list []scenario) {
	policies := t.TempDir()
	must(t, os.WriteFile(filepath.Join(policies, "faults.rego"), []byte(policy), 0o600))
	var group *gate.Group
	t.Cleanup(func() {
		if group == nil {
			return
		}
		if t.Failed() && testing.Verbose() {
			for _, r := range group.All() {
				t.Logf("log of %s:\n%s", r.Listen, tail(r.Log()))
			}
		}
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, s := range list {
		t.Run(s.fault, func(t *testing.T) {
			if group == nil {
				group = w.open(t, name, policies)
			}
			w.play(t, group, policies, s)
		})
	}
	if group != nil {
		must(t, group.Stop())
	}
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// webhookName is what the API server calls the group by.
func webhookName(group string) string {
	if group == "http/2" {
		return "localhost"
	}
	return "evictgate.default.svc"
}

// open starts replicas as config/ does, with the group's own arguments.
func (w *world) open(t *testing.T, name, policies string) *gate.Group {
	t.Helper()
	o := gate.Options{
		Plane: w.plane, Binary: w.binary, Service: "evictgate",
		Args: []string{"--policies", "default", "--policies", "cluster", "--policies", policies, "--shutdown-delay", shutdownDelay.String()},
	}
	switch name {
	case "http/2":
		o.Service = ""
		o.Args = append(o.Args, "--http2")
	case "short leaf":
		o.Args = append(o.Args, "--leaf-duration", shortLeaf.String())
	case "files":
		w.issuer = newIssuer(t, filepath.Join(w.dir, "certificates"))
		w.issuer.issue(t)
		o.CABundle = w.issuer.pem()
		o.Args = append(o.Args, "--certs", "files", "--cert-dir", w.issuer.dir)
	case "postgres":
		o.Args = append(o.Args, "--store", w.postgres(t))
	case "full disk":
		w.mount(t)
		o.Args = append(o.Args, "--record-queue", "40")
		o.Each = func(n int) []string { return []string{"--store", "sqlite:" + w.storeFile(n)} }
	}
	group, err := gate.StartGroup(t.Context(), replicas, gate.AsInstalled(), o)
	must(t, err)
	return group
}

// play runs one scenario under load, and holds it to its bound.
func (w *world) play(t *testing.T, group *gate.Group, policies string, s scenario) {
	st := &stage{world: w, T: t, group: group, policies: policies}
	for n := len(group.Running()); n < replicas; n++ {
		_, err := group.Add(t.Context())
		must(t, err)
	}
	st.recorded = st.records()
	st.load = w.scene.evictAll(t)
	st.knocker = st.knock(webhookName(s.group))
	time.Sleep(*duration)
	began := time.Now()
	s.run(st)
	over := time.Now()
	time.Sleep(*duration + s.lingers)
	st.load.end()
	st.knocker.end()
	st.judge(s, began, over)
	if s.after != nil {
		s.after(st)
	}
}

// records is how many decisions about the scene's pods are recorded.
func (st *stage) records() int {
	n := 0
	for _, r := range st.group.All() {
		all, err := r.Records()
		must(st.T, err)
		n += count(all, st.scene.namespace)
	}
	return n
}

func count(all []record.Record, namespace string) (n int) {
	for _, r := range all {
		if r.Request.Namespace == namespace {
			n++
		}
	}
	return n
}

// judge holds what came to what must hold.
func (st *stage) judge(s scenario, began, over time.Time) {
	st.Helper()
	l := st.load
	took := over.Sub(began)
	late := func(at time.Time) bool { return at.After(over.Add(s.lingers)) }
	all, others := l.counts()
	bound := 0
	if s.bound != nil {
		bound = s.bound(cmp.Or(st.lasted, took))
	}
	r := row{scenario: s, all: all, others: others, most: bound, knocks: st.knocker.made, unheard: len(st.knocker.failed)}
	st.rows = append(st.rows, r)
	st.Logf("%s: %d evictions, %d anything but a decision %v; it took %s, the longest answer %s; answers %v",
		s.fault, all, r.failed(), others, took.Round(100*time.Millisecond), l.longest.Round(10*time.Millisecond), l.answers)
	for what, example := range l.examples {
		st.Logf("%s, for example: %s", what, example)
	}
	for _, f := range l.times {
		say := st.Logf
		if late(l.began.Add(f.after)) {
			say = st.Errorf
		}
		say("after %s: %s, which took %s", f.after.Round(10*time.Millisecond), f.what, f.took.Round(10*time.Millisecond))
	}
	for _, w := range l.wrong {
		st.Errorf("another decision than the pod's: %s", w)
	}
	if r.failed() > bound {
		st.Errorf("%d evictions got anything but a decision; at most %d may: %v", r.failed(), bound, others)
	}
	st.Logf("%d reviews over new connections, %d failed", st.knocker.made, len(st.knocker.failed))
	for i, f := range st.knocker.failed {
		if s.bound == nil || late(f.at) {
			st.Errorf("over a new connection: %s", f.why)
		} else if i < 10 {
			st.Logf("over a new connection: %s", f.why)
		}
	}
	st.loaded(s, took)
	st.scene.unharmed(st.T)
	st.complete(s)
}

// loaded wants a third of the evictions that there can be, since slow machines leave some out, and pods that really
// went.
func (st *stage) loaded(s scenario, took time.Duration) {
	st.Helper()
	length := took + 2**duration + s.lingers
	if s.stalls {
		length -= took
	}
	all, _ := st.load.counts()
	if least := int(length.Seconds() * rate / 3); all < least || st.load.gone == 0 {
		st.Errorf("only %d evictions in %s, expected %d; %d pods went", all, length.Round(100*time.Millisecond), least, st.load.gone)
	}
}

// complete compares the records with the answers: there is one for every decision, and beside them at most
// one for each eviction whose answer did not arrive.
func (st *stage) complete(s scenario) {
	st.Helper()
	l := st.load
	all, _ := l.counts()
	least := l.decided() + l.answers[ownBudget] + l.answers[undecided]
	records := 0
	err := kube.Wait(st.Context(), "the records to be written", func(context.Context) (bool, error) {
		records = st.records() - st.recorded
		return records >= least-s.unwritten, fmt.Errorf("%d records of %d decisions", records, least)
	})
	if err != nil {
		st.Error(err)
	}
	if records > all {
		st.Errorf("%d records of %d evictions", records, all)
	}
	st.Logf("%d records of %d decisions", records, least)
}
