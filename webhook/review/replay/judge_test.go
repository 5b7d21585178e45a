package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func bind(name, spec string) policies.File {
	return policies.File{Name: name + ".yaml", Data: fmt.Appendf(nil, "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: %s}\nspec:\n  %s\n", name, strings.ReplaceAll(spec, "\n", "\n  "))}
}

func inline(id, rules string) string {
	return "rego: |\n  package eviction." + id + "\n\n  " + strings.ReplaceAll(rules, "\n", "\n  ")
}

func compile(t testing.TB, files ...policies.File) *policies.Set {
	t.Helper()
	set, err := source.Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// bindings are the library, every policy of it by its examples and some in other ways, and policies that read
// what the library does not.
func bindings(t testing.TB) []policies.File {
	t.Helper()
	library, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	var files []policies.File
	for _, p := range library.Policies() {
		examples, err := json.Marshal(p.Metadata.Parameters.Examples())
		if err != nil {
			t.Fatal(err)
		}
		spec := fmt.Sprintf("library: %s\nenforcement: Enforce\nparameters: %s", p.Policy, examples)
		files = append(files,
			bind(strings.ReplaceAll(p.Policy, "_", "-"), spec),
			bind(strings.ReplaceAll(p.Policy, "_", "-")+"-held", spec+"\nmaxHold: 1h\nmatch:\n  podSelector: {matchLabels: {app: web}}"))
	}
	return append(files,
		bind("few", "library: rate_limit\nparameters: {limits: [{per: owner, max: 1, period: 1h}]}"),
		bind("many", "library: rate_limit\nparameters: {limits: [{per: owner, max: 3, period: 1h}, {per: cluster, max: 2, period: 5m}]}"),
		bind("rack", "library: gang\nparameters: {labels: [rack]}"),
		bind("calm", "library: cooldown\nparameters: {period: 1h}\nmatch:\n  namespaceSelector: {matchLabels: {team: a}}"),
		bind("frozen", "library: incident_freeze\nparameters: {reason: INC-1, allow_evictors: [user], allow_groups: []}\nmatch:\n  excludes: [{evictors: [{group: ops}]}, {podState: {crashLooping: true}}]"),
		bind("zone", inline("zone", "delay contains {\"reason\": \"zone a is calm\", \"detail\": {\"node\": input.node.name}} if input.node.labels[\"topology.kubernetes.io/zone\"] == \"a\"")),
		bind("images", "enforcement: Warn\n"+inline("images", "deny contains $\"image {c.image}\" if {\n\tsome c in input.pod.spec.containers\n\tcontains(c.image, \"old\")\n}")),
		bind("whole", "enforcement: Audit\n"+inline("whole", "deny contains $\"{count(input)} keys for {input.request.uid}\" if input.request.evictor != \"user\"")),
		bind("failing", "match:\n  podSelector: {matchLabels: {app: db}}\n"+inline("failing", "deny contains \"x\" if to_number(input.pod.metadata.annotations.number) > 3")),
		bind("told", inline("told", "warn contains $\"{input.disruption.detail} at {input.now}, {input.pod.metadata.uid} of {input.owner.kind} on {input.pod.spec.nodeName}\" if input.disruption.code != 201")),
		bind("options", inline("options", "deny contains \"grace\" if input.request.delete_options.gracePeriodSeconds == 0")),
		// These look further than they say.
		bind("deep", "rego: |\n  # METADATA\n  # custom:\n  #   history_depth: 1\n  package eviction.deep\n\n  warn contains $\"{count(input.history.owner)} of {count(input.history.node)}\" if count(input.history.owner) > 1"),
		bind("near", "parameters: {labels: [rack]}\nrego: |\n  # METADATA\n  # custom:\n  #   neighbours_by: labels\n  package eviction.near\n\n  warn contains $\"{count(input.neighbours)}\" if count(input.neighbours) > 1"),
		bind("cordoned", inline("cordoned", "warn contains \"cordoned\" if input.node.unschedulable")),
		bind("wanted", inline("wanted", "delay contains $\"{input.owner.replicas}\" if input.owner.replicas > 2")),
	)
}

// anySets are sets of some of the bindings; small ones, too, which read little; the last one has none.
func anySets(t testing.TB, r *rand.Rand, n int) []*policies.Set {
	t.Helper()
	all := map[string]policies.File{}
	for _, f := range bindings(t) {
		all[strings.TrimSuffix(f.Name, ".yaml")] = f
	}
	var sets []*policies.Set
	for _, names := range []string{
		"few", "many", "few deep", "many deep", "calm", "cooldown few", "gang", "rack", "gang near", "rack near", "zone", "cordoned", "images",
		"do-not-disrupt do-not-disrupt-held", "minimum-age-held", "told options", "frozen", "failing wanted",
	} {
		var some []policies.File
		for _, name := range strings.Fields(names) {
			some = append(some, all[name])
		}
		sets = append(sets, compile(t, some...))
	}
	for i := range n {
		var some []policies.File
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if r.IntN(n) <= i {
				some = append(some, all[name])
			}
		}
		sets = append(sets, compile(t, some...))
	}
	return append(sets, policies.None())
}

// anyEviction is an Input with all there is to know, of a cluster with few different things.
func anyEviction(pick func(n int) int) *policies.Input {
	one := func(values ...string) string { return values[pick(len(values))] }
	yes := func() bool { return pick(2) == 0 }
	at := noon.Add(time.Duration(pick(7*24*3600))*time.Second + time.Duration(pick(4))*250*time.Millisecond)
	ago := func() metav1.Time {
		minutes := []time.Duration{1, 5, 60, 60, 61, 100}[pick(6)]
		return metav1.NewTime(at.Add(-minutes*time.Minute + time.Duration(pick(5)-2)*250*time.Millisecond))
	}
	in := &policies.Input{
		Now: metav1.NewTime(at),
		Request: policies.Request{
			UID: fmt.Sprintf("r%d", pick(1e9)), Namespace: one("shop", "kube-system"), Name: fmt.Sprintf("%s-%d", one("web", "db"), pick(5)), DryRun: pick(8) == 0,
			User: policies.User{Username: one("admin", "system:serviceaccount:kube-system:karpenter"), Groups: [][]string{nil, {"ops"}, {"system:masters", "dev"}}[pick(3)]},
		},
	}
	in.Request.Evictor = policies.DefaultEvictors().Of(in.Request.User)
	if pick(4) == 0 {
		in.Request.Annotations = map[string]string{policies.OverrideAnnotation: one("", "INC-1"), "other": "x"}
	}
	if pick(4) == 0 {
		in.Request.DeleteOptions = &metav1.DeleteOptions{GracePeriodSeconds: new(int64(pick(2)))}
	}
	if pick(20) == 0 {
		return in // a pod that is not known
	}
	in.Pod = anyPod(in, pick)
	in.Namespace = &policies.Namespace{Name: in.Request.Namespace}
	if yes() {
		in.Namespace.Labels = map[string]string{"team": one("a", "b")}
	}
	if pick(4) > 0 {
		in.Node = &policies.Node{Name: in.Pod.Spec.NodeName, Unschedulable: yes(), Ready: yes(), Labels: map[string]string{corev1.LabelTopologyZone: one("a", "b")}}
	}
	if pick(4) > 0 {
		in.Owner = &policies.Owner{Kind: one("Deployment", "StatefulSet"), Name: strings.Split(in.Request.Name, "-")[0], UID: "o"}
		in.Owner.Replicas, in.Owner.ReadyReplicas, in.Owner.MissingReplicas = new(int32(pick(4))), new(int32(pick(4))), new(int32(pick(2)))
		for i := range pick(3) {
			in.Peers = append(in.Peers, policies.Peer{Name: fmt.Sprint("peer-", i), Node: "n", Zone: one("a", "b"), Ready: yes(), Phase: "Running", Terminating: pick(4) == 0})
		}
	}
	for i := range pick(4) {
		in.Neighbours = append(in.Neighbours, policies.Neighbour{Peer: policies.Peer{Name: fmt.Sprint("n-", i), Phase: "Running", Ready: yes(), NodeUnschedulable: yes()}, Labels: map[string]string{"evictgate.dev/gang": one("a", "b"), "rack": one("a", "b")}})
	}
	in.Disruption = &policies.Disruption{Allowed: true, Code: 201}
	if pick(4) > 0 {
		limit := one("0", "1", "50%")
		in.Budgets = []policies.Budget{{Name: "b", MinAvailable: &limit, ExpectedPods: 3, CurrentHealthy: int32(pick(4)), DesiredHealthy: 2}}
		if code := []int32{201, 201, 429, 500}[pick(4)]; code != 201 && !policies.BudgetIgnored(in.Pod) {
			since := ago()
			in.Disruption = &policies.Disruption{
				Code: code, Detail: "Budget shop/b needs more.", Cause: "cause", Budgets: []string{"b"},
				Blockers: []policies.Blocker{{Name: "web-1", Why: "CrashLoopBackOff", Since: &since}}, Cures: []string{"wait"},
			}
		}
	}
	in.Cluster = &policies.Cluster{Nodes: 10, ReadyNodes: int32(pick(11)), NotReadyNodes: []string{"n1", "n2"}[:pick(3)]}
	if pick(6) > 0 {
		in.History = anyHistory(pick, ago)
	}
	return in
}

func anyPod(in *policies.Input, pick func(int) int) *corev1.Pod {
	one := func(values ...string) string { return values[pick(len(values))] }
	started := metav1.NewTime(in.Now.Add(-time.Duration(pick(48)) * time.Hour).Truncate(time.Second))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: in.Request.Namespace, Name: in.Request.Name, UID: types.UID(fmt.Sprint("uid-", in.Request.Name)), CreationTimestamp: started},
		Spec: corev1.PodSpec{
			NodeName: one("node-1", "node-2"), Containers: []corev1.Container{{Name: "c", Image: one("new:1", "old:1")}},
			TerminationGracePeriodSeconds: new(int64(30)), Priority: new(int32(pick(2) * 2000000000)),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPhase(one("Running", "Running", "Running", "Running", "Pending", "Failed", "Unknown", "")), StartTime: &started},
	}
	if pick(10) == 0 {
		pod.DeletionTimestamp = &started
	}
	if pick(4) > 0 {
		pod.Labels = map[string]string{"app": one("web", "db"), "evictgate.dev/gang": one("a", "b", ""), "rack": one("a", "b", "")}
	}
	for _, key := range []string{"karpenter.sh/do-not-disrupt", "evictgate.dev/do-not-disrupt", "evictgate.dev/session", "evictgate.dev/gang-size", "number"} {
		if pick(4) == 0 {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, one("true", "4h", "2", "no"))
		}
	}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionStatus(one("True", "False")), LastTransitionTime: started}
	pod.Status.Conditions = []corev1.PodCondition{ready}
	if pick(6) == 0 {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	}
	if pick(3) == 0 {
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	return pod
}

func anyHistory(pick func(int) int, ago func() metav1.Time) *policies.History {
	times := func() []metav1.Time {
		var list []metav1.Time
		for range pick(5) {
			list = append(list, ago())
		}
		slices.SortFunc(list, func(a, b metav1.Time) int { return b.Compare(a.Time) })
		return list
	}
	h := &policies.History{Owner: times(), Node: times(), Namespace: times(), Zone: times(), Cluster: times(), Holds: map[string]metav1.Time{}}
	for _, name := range []string{"do-not-disrupt-held", "minimum-age-held", "last-ready-replica-held", "bare-pod-held", "require-budget-held"} {
		if pick(2) == 0 {
			h.Holds[name] = ago()
		}
	}
	return h
}

// gathered is what the server would give a set of all there is.
func gathered(all *policies.Input, needs *policies.Needs) *policies.Input {
	in := *all
	if !needs.Reads("neighbours") {
		in.Neighbours = nil
	}
	if by := needs.Neighbours(); !by.All {
		in.Neighbours = slices.DeleteFunc(slices.Clone(in.Neighbours), func(n policies.Neighbour) bool {
			return in.Pod == nil || !slices.ContainsFunc(by.Labels, func(l string) bool { return in.Pod.Labels[l] != "" && in.Pod.Labels[l] == n.Labels[l] })
		})
	}
	if h := all.History; h != nil {
		list := func(name string, times []metav1.Time) []metav1.Time {
			if !needs.Reads("history", name) {
				return nil
			}
			return times[:needs.HistoryDepth(name, len(times))]
		}
		in.History = &policies.History{
			Owner: list("owner", h.Owner), Node: list("node", h.Node), Namespace: list("namespace", h.Namespace), Zone: list("zone", h.Zone), Cluster: list("cluster", h.Cluster),
			Holds: h.Holds,
		}
	}
	return &in
}

// recordOf decides as the server does, and writes and reads the record.
func recordOf(t rapid.TB, set *policies.Set, all *policies.Input, recording record.Recording, o policies.Options) record.Record {
	t.Helper()
	needs := set.Needs()
	if recording.Full {
		needs = policies.EverythingNeeded()
	}
	in := gathered(all, needs)
	reading := set.Read(gathered(all, set.Needs()))
	d := reading.Evaluate(context.Background(), o)
	made, err := recording.Record(in, reading, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := made.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := record.Line{Number: 1, Text: line}.Record()
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func anyOptions(pick func(int) int) policies.Options {
	return policies.Options{
		Budgets:  []policies.BudgetMode{"", policies.AnswerBudgets, policies.AdviseBudgets}[pick(3)],
		OnError:  []policies.OnError{"", policies.OnErrorDelay, policies.OnErrorDeny, policies.OnErrorAdmit}[pick(4)],
		Override: policies.OverrideRule{Groups: []string{"ops"}},
	}
}

func judged(set *policies.Set, record record.Record, o Options) judgement {
	j := judge{ctx: context.Background(), set: set, options: o}
	return j.judge(offered{record: record})
}

func pickOf(t *rapid.T) func(int) int {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
}

// TestTheSetThatDecidedDecidesTheSameAgain: every record, whatever it is of, is judged, and nothing changes.
func TestTheSetThatDecidedDecidesTheSameAgain(t *testing.T) {
	sets := anySets(t, rand.New(rand.NewPCG(1, 2)), 6)
	check := func(t rapid.TB, pick func(int) int) policies.Outcome {
		t.Helper()
		set := sets[pick(len(sets))]
		record := recordOf(t, set, anyEviction(pick), record.Recording{Full: pick(3) == 0}, anyOptions(pick))
		got := judged(set, record, Options{})
		if len(got.obstacles) > 0 {
			t.Fatalf("not judged: %v", got.obstacles)
		}
		if got.change != nil {
			t.Fatalf("a change: %s", cmp.Diff(got.change.Before, got.change.After))
		}
		return record.Result.Outcome
	}
	rapid.Check(t, func(t *rapid.T) { check(t, pickOf(t)) })
	// The same draws each time have every outcome.
	outcomes, fixed := map[policies.Outcome]int{}, rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		outcomes[check(t, fixed.IntN)]++
	}
	if len(outcomes) < 4 {
		t.Errorf("only these outcomes: %v", outcomes)
	}
}

// TestWhatIsJudgedIsWhatWouldHaveBeenDecided holds a replay by any set of what any other set, or a mask, left
// in a record to what the set decides of all that was known then.
func TestWhatIsJudgedIsWhatWouldHaveBeenDecided(t *testing.T) {
	sets := anySets(t, rand.New(rand.NewPCG(3, 4)), 8)
	found := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		pick := pickOf(t)
		then, now := sets[pick(len(sets))], sets[pick(len(sets))]
		all, o := anyEviction(pick), anyOptions(pick)
		record := recordOf(t, then, all, record.Recording{Full: pick(4) == 0, Masks: anyMasks(t, pick)}, o)
		if pick(8) == 0 {
			record.Basis = nil // as before there was one
		}
		got := judged(now, record, Options{})
		if len(got.obstacles) > 0 {
			found["not judged"]++
			found[string(got.obstacles[0].Reason)]++
			return
		}
		want := now.Evaluate(context.Background(), gathered(all, now.Needs()), o)
		before, after := answerOf(record.Result), answerOf(want)
		if reflect.DeepEqual(before.Findings, after.Findings) && before.Outcome == after.Outcome && before.Code == after.Code {
			found["unchanged"]++
			if got.change != nil {
				t.Fatalf("a change where there is none: %+v\n%s", got.change, record.Input)
			}
			return
		}
		found["changed"]++
		if got.change == nil {
			t.Fatalf("no change:\n%s\n%s", cmp.Diff(before, after), record.Input)
		}
		if diff := cmp.Diff(after, got.change.After); diff != "" {
			t.Fatalf("-decided +replayed:\n%s\n%s", diff, record.Input)
		}
	})
	for _, what := range []string{"not judged", "unchanged", "changed", string(ReadsBeyond)} {
		if found[what] < 5 {
			t.Errorf("only %d are %s: %v", found[what], what, found)
		}
	}
}

func anyMasks(t *rapid.T, pick func(int) int) record.Masks {
	if pick(3) > 0 {
		return nil
	}
	paths := []string{
		"request.user.groups", "request.annotations", `request.annotations["evictgate.dev/override"]`, "input.pod.metadata.labels.app",
		"input.pod.metadata.annotations", "input.node.labels", "input.history.holds", "input.pod.spec.containers[].image", "input.budgets[].min_available",
		"input.neighbours[].labels", "input.namespace.labels.team", "input.owner.replicas", "input.pod.status",
	}
	masks, err := record.ReadMasks([]string{paths[pick(len(paths))], paths[pick(len(paths))]})
	if err != nil {
		t.Fatal(err)
	}
	return masks
}
