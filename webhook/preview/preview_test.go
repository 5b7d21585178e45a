package preview

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

func options(set *policies.Set) Options {
	return Options{Policies: set, User: policies.User{Username: "admin"}, Now: start, ReadyAfter: 10 * time.Second, Drain: "old"}
}

func TestDrain(t *testing.T) {
	set := defaultSet(t)
	elsewhere := node("other")
	for name, test := range map[string]struct {
		scene objects
		want  map[string]string
	}{
		"without a budget all pods go at once": {
			scene(elsewhere, deployment("web", on("old", 2))),
			map[string]string{"web-1": "after 0s", "web-2": "after 0s"},
		},
		"one at a time, each when the replacement before it is ready": {
			scene(elsewhere, deployment("web", on("old", 3)), objects{maximum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 10s", "web-3": "after 20s"},
		},
		"a replacement that fits nowhere keeps the others": {
			scene(elsewhere, deployment("web", on("old", 3), pinned), objects{maximum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "stuck 429", "web-3": "stuck 429"},
		},
		"a cordoned node takes no replacement": {
			scene(node("other", cordoned), deployment("web", on("old", 2)), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "stuck 429"},
		},
		"a pod that tolerates the cordon may even come back to its node": {
			scene(deployment("web", on("old", 2), tolerating(corev1.TaintNodeUnschedulable)), node("old"), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 10s"},
		},
		"a tainted node takes no replacement": {
			scene(node("other", tainted), deployment("web", on("old", 2)), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "stuck 429"},
		},
		"a tainted node takes what tolerates it": {
			scene(node("other", tainted), deployment("web", on("old", 2), tolerating("gpu")), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 10s"},
		},
		"a taint that only prefers does not keep a pod away": {
			scene(node("other", preferablyNot), deployment("web", on("old", 2)), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 10s"},
		},
		"a StatefulSet's pod keeps its name, and waits for the lower ordinals": {
			scene(elsewhere, statefulSet("db", on("old", 3), appsv1.OrderedReadyPodManagement), objects{maximum("db", "2")}),
			map[string]string{"db-0": "after 0s", "db-1": "after 0s", "db-2": "after 10s"},
		},
		"a StatefulSet does not replace a pod while one of a lower ordinal is not ready": {
			scene(elsewhere, statefulSet("db", []string{"other", "old", "old"}, "", only(unready, "db-0")), objects{minimum("db", "1")}),
			map[string]string{"db-1": "after 0s", "db-2": "stuck 429"},
		},
		"a parallel StatefulSet does": {
			scene(elsewhere, statefulSet("db", []string{"other", "old", "old"}, appsv1.ParallelPodManagement, only(unready, "db-0")), objects{minimum("db", "1")}),
			map[string]string{"db-1": "after 0s", "db-2": "after 10s"},
		},
		"a StatefulSet may begin at another ordinal": {
			scene(elsewhere, beginningAt(5), objects{maximum("db", "1")}),
			map[string]string{"db-5": "after 0s", "db-6": "after 10s"},
		},
		"a terminating pod of a StatefulSet comes back under its name": {
			scene(elsewhere, statefulSet("db", on("old", 2), "", only(leaving, "db-0")), objects{minimum("db", "1")}),
			map[string]string{"db-0": "after 0s", "db-1": "after 10s"},
		},
		"a bare pod goes and is not replaced": {
			scene(elsewhere, bare("web-1"), bare("web-2"), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "stuck 429"},
		},
		"bare pods under a percentage are never let go": {
			scene(elsewhere, bare("web-1"), bare("web-2"), objects{minimum("web", "50%")}),
			map[string]string{"web-1": "stuck 429", "web-2": "stuck 429"},
		},
		"bare pods beside a Deployment count for a number": {
			scene(elsewhere, deployment("web", on("old", 1)), bare("web-bare"), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-bare": "after 10s"},
		},
		"DaemonSet and mirror pods stay": {
			scene(elsewhere, objects{pod("agent-1", "old", owner("DaemonSet", "agent"))}, bare("etcd-1", mirror)),
			map[string]string{"agent-1": "skipped", "etcd-1": "skipped"},
		},
		"a finished DaemonSet pod goes": {
			scene(elsewhere, objects{pod("agent-1", "old", owner("DaemonSet", "agent"), failed)}),
			map[string]string{"agent-1": "after 0s"},
		},
		"finished and pending pods go whatever the budget": {
			scene(elsewhere, bare("web-1", failed), bare("web-2", succeeded), deployment("api", on("old", 2), pending), objects{minimum("web", "5"), maximum("api", "0")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 0s", "api-1": "after 0s", "api-2": "after 0s"},
		},
		"a pending pod's replacement counts once it is ready": {
			scene(elsewhere, deployment("web", on("old", 2), only(pending, "web-2")), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 10s", "web-2": "after 0s"},
		},
		"a terminating pod has been replaced already": {
			scene(elsewhere, deployment("web", on("old", 2), only(leaving, "web-2")), objects{minimum("web", "1")}),
			map[string]string{"web-1": "stuck 429", "web-2": "after 0s"},
		},
		"an unready pod stays while its budget is not met": {
			scene(elsewhere, deployment("web", []string{"old", "old", "other"}, only(unready, "web-1", "web-2")), objects{minimum("web", "2")}),
			map[string]string{"web-1": "stuck 429", "web-2": "stuck 429"},
		},
		"an unready pod goes while its budget is met, and its replacement frees the next": {
			scene(elsewhere, deployment("web", []string{"old", "old", "other"}, only(unready, "web-2")), objects{minimum("web", "2")}),
			map[string]string{"web-1": "after 10s", "web-2": "after 0s"},
		},
		"an unready pod under AlwaysAllow goes at once": {
			scene(elsewhere, deployment("web", []string{"old", "old", "other"}, only(unready, "web-1", "web-2")), objects{always(minimum("web", "2"))}),
			map[string]string{"web-1": "after 0s", "web-2": "after 0s"},
		},
		"Deployments share a budget": {
			scene(elsewhere, deployment("web", on("old", 1)), deployment("api", on("old", 1)), objects{over(maximum("", "1"))}),
			map[string]string{"api-1": "after 0s", "web-1": "after 10s"},
		},
		"a pinned Deployment uses up a budget that another shares": {
			scene(elsewhere, deployment("api", on("old", 1), pinned), deployment("web", on("old", 1)), objects{over(maximum("", "1"))}),
			map[string]string{"api-1": "after 0s", "web-1": "stuck 429"},
		},
		"two budgets on a pod: given up": {
			scene(elsewhere, deployment("web", on("old", 2)), objects{maximum("web", "1"), over(maximum("", "1"))}),
			map[string]string{"web-1": "stuck 500", "web-2": "stuck 500"},
		},
		"a percentage rounds up": {
			scene(elsewhere, deployment("web", on("old", 2)), objects{minimum("web", "51%")}),
			map[string]string{"web-1": "stuck 429", "web-2": "stuck 429"},
		},
		"a percentage of unavailable pods rounds up, too": {
			scene(elsewhere, deployment("web", on("old", 3)), objects{maximum("web", "34%")}),
			map[string]string{"web-1": "after 0s", "web-2": "after 0s", "web-3": "after 10s"},
		},
		"a policy that delays holds its pods, not the others": {
			scene(elsewhere, deployment("web", on("old", 2), only(held, "web-1"))),
			map[string]string{"web-1": "stuck 429", "web-2": "after 0s"},
		},
		"with no other node there is no replacement": {
			scene(deployment("web", on("old", 2)), objects{minimum("web", "1")}),
			map[string]string{"web-1": "after 0s", "web-2": "stuck 429"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			world := worldOf(t, test.scene)
			results, err := Drain(t.Context(), world, world.PodsOn("old"), options(set))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, fates(results)); diff != "" {
				t.Errorf("fates (-want +got):\n%s", diff)
			}
		})
	}
}

func beginningAt(first int32) objects {
	two := int32(2)
	return objects{
		&appsv1.StatefulSet{ObjectMeta: meta("db", nil), Spec: appsv1.StatefulSetSpec{Replicas: &two, Ordinals: &appsv1.StatefulSetOrdinals{Start: first}}},
		pod(fmt.Sprintf("db-%d", first), "old", owner("StatefulSet", "db")),
		pod(fmt.Sprintf("db-%d", first+1), "old", owner("StatefulSet", "db")),
	}
}

func TestAReplacementOfAStatefulSetKeepsItsNameAndIsOnAnotherNode(t *testing.T) {
	world := worldOf(t, scene(node("old"), node("other"), statefulSet("db", on("old", 1), "")))
	before, _ := world.Pod("shop", "db-0")
	if _, err := Drain(t.Context(), world, world.PodsOn("old"), options(defaultSet(t))); err != nil {
		t.Fatal(err)
	}
	after, ok := world.Pod("shop", "db-0")
	if !ok || after.UID == before.UID || after.Spec.NodeName != "other" {
		t.Errorf("db-0 is now %+v", after)
	}
}

func TestADeploymentIsAskedForWithoutADrain(t *testing.T) {
	world := worldOf(t, scene(node("old"), deployment("web", on("old", 2), pinned), deployment("api", on("old", 2)), objects{maximum("web", "1")}))
	pods, _ := world.PodsOfDeployment("shop", "web")
	o := options(defaultSet(t))
	o.Drain = ""
	results, err := Drain(t.Context(), world, pods, o)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is cordoned, so a replacement may go to the same node.
	want := map[string]string{"web-1": "after 0s", "web-2": "after 10s"}
	if diff := cmp.Diff(want, fates(results)); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
}

func TestAskSaysWhatHoldsNow(t *testing.T) {
	world := worldOf(t, scene(node("old"), deployment("web", on("old", 2)), bare("job-1", succeeded), bare("etcd-1", mirror),
		objects{pod("agent-1", "old", owner("DaemonSet", "agent"))}, deployment("api", on("old", 2), held), objects{maximum("web", "1")}))
	results, err := Ask(t.Context(), world.Store, world.Pods(), options(defaultSet(t)))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Owner, Skipped, Outcome string
		Refused                 bool
	}
	got := map[string]row{}
	for _, r := range results {
		skip, _, _ := strings.Cut(r.Skipped, ":")
		w := row{Owner: r.Owner, Skipped: skip, Refused: r.Refused()}
		if r.Now != nil {
			w.Outcome = string(r.Now.Outcome)
		}
		got[r.Pod] = w
		if r.Evicted != nil || r.Stuck != nil || r.Namespace != "shop" || r.Node != "old" {
			t.Errorf("%s: %+v", r.Pod, r)
		}
	}
	want := map[string]row{
		"agent-1": {Owner: "DaemonSet/agent", Skipped: "DaemonSet pod"},
		"api-1":   {Owner: "Deployment/api", Outcome: "delayed", Refused: true},
		"api-2":   {Owner: "Deployment/api", Outcome: "delayed", Refused: true},
		"etcd-1":  {Skipped: "mirror pod"},
		"job-1":   {Outcome: "admitted"},
		// Each is asked for itself: both would be let go now, though not both of them.
		"web-1": {Owner: "Deployment/web", Outcome: "admitted"},
		"web-2": {Owner: "Deployment/web", Outcome: "admitted"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

const frozen = `package eviction.frozen

deny contains {"reason": "web is frozen", "detail": {}} if input.pod.metadata.labels.app == "web"
`

func TestADeniedPodIsGivenUp(t *testing.T) {
	set := load(t, frozen)
	world := worldOf(t, scene(node("other"), deployment("web", on("old", 1)), deployment("api", on("old", 2)), objects{maximum("api", "1")}))
	asked := map[string]int{}
	results, err := Drain(t.Context(), world, world.PodsOn("old"), counting(options(set), asked))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"api-1": "after 0s", "api-2": "after 10s", "web-1": "stuck 403"}
	if diff := cmp.Diff(want, fates(results)); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
	// 3 to ask, and in the drain api-1 once, api-2 at 0, 5 and 10 s, web-1 once.
	if asked["decisions"] != 8 {
		t.Errorf("%d decisions, expected 8", asked["decisions"])
	}
}

func counting(o Options, asked map[string]int) Options {
	o.Progress = func(int) { asked["decisions"]++ }
	return o
}

const uncordoned = `package eviction.cordoned_first

delay contains {"reason": "cordon the node first", "detail": {}} if not input.node.unschedulable
`

func TestADrainCordonsFirst(t *testing.T) {
	world := worldOf(t, scene(node("old"), node("other"), deployment("web", on("old", 1))))
	results, err := Drain(t.Context(), world, world.PodsOn("old"), options(load(t, uncordoned)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"web-1": "after 0s"}, fates(results)); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
	if !results[0].Refused() {
		t.Error("an eviction now, before the cordon, would be refused")
	}
}

func load(t *testing.T, rego string) *policies.Set {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy.rego"), []byte(rego), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestBudgetsRefuseInEveryMode(t *testing.T) {
	world := worldOf(t, scene(node("other"), deployment("web", on("old", 1)), objects{maximum("web", "0")}))
	o := options(defaultSet(t))
	o.Decision.Budgets = policies.AdviseBudgets
	results, err := Drain(t.Context(), world, world.PodsOn("old"), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"web-1": "stuck 429"}, fates(results)); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
}

func TestTheObjectsHandedInAreNotChanged(t *testing.T) {
	all := scene(node("old"), node("other"), deployment("web", on("old", 3), only(unready, "web-3")), bare("web-bare"),
		statefulSet("db", on("old", 2), ""), bare("db-done", failed), objects{minimum("web", "2"), maximum("db", "1")})
	world := worldOf(t, all)
	before := make(objects, len(all))
	for i, obj := range all {
		before[i] = obj.DeepCopyObject()
	}
	pods := world.PodsOn("old")
	if _, err := Drain(t.Context(), world, pods, options(defaultSet(t))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, all); diff != "" {
		t.Errorf("objects changed (-before +after):\n%s", diff)
	}
}

func TestACancelledPreviewEnds(t *testing.T) {
	world := worldOf(t, scene(node("other"), deployment("web", on("old", 2))))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ask(ctx, world.Store, world.Pods(), options(defaultSet(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("Ask: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	o := options(defaultSet(t))
	o.Progress = func(decided int) {
		if decided == 2 {
			cancel()
		}
	}
	if _, err := Drain(ctx, world, world.Pods(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain: %v", err)
	}
}

func TestImpossibleBudgets(t *testing.T) {
	failing := minimum("web", "1")
	for name, test := range map[string]struct {
		scene objects
		want  []string
	}{
		"one that allows an eviction is none":        {scene(deployment("web", on("old", 2)), objects{maximum("web", "1")}), nil},
		"one that only blocks now is none":           {scene(deployment("web", on("old", 2), unready), objects{maximum("web", "1")}), nil},
		"one that holds no pod is none":              {scene(objects{maximum("web", "0")}), nil},
		"maxUnavailable 0":                           {scene(deployment("web", on("old", 2)), objects{maximum("web", "0")}), []string{"web: with maxUnavailable 0 all 2 pods must stay healthy"}},
		"minAvailable of all":                        {scene(deployment("web", on("old", 2)), objects{minimum("web", "2")}), []string{"web: with minAvailable 2 all 2 pods must stay healthy"}},
		"a percentage that rounds up":                {scene(deployment("web", on("old", 3)), objects{minimum("web", "67%")}), []string{"web: minAvailable 67% of 3 pods is 2.01, rounded up to 3"}},
		"a percentage over bare pods":                {scene(bare("web-1"), objects{minimum("web", "50%")}), []string{"web: minAvailable 50% counts pods by their controller's scale"}},
		"two over the same pods, each told":          {scene(deployment("web", on("old", 2)), objects{maximum("web", "1"), over(maximum("", "1"))}), []string{"all: 2 of its pods are selected by web, too", "web: 2 of its pods are selected by all, too"}},
		"two over different pods":                    {scene(deployment("web", on("old", 2)), deployment("api", on("old", 2)), objects{maximum("web", "1"), maximum("api", "1")}), nil},
		"a budget of a broken selector holds no pod": {scene(deployment("web", on("old", 2)), objects{noSelector(failing)}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, b := range ImpossibleBudgets(worldOf(t, test.scene).Store) {
				if b.Namespace != "shop" || b.Pods == 0 {
					t.Errorf("%+v", b)
				}
				got = append(got, b.Name+": "+b.Why)
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %q, expected %q", got, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("got %q, expected %q", got[i], test.want[i])
				}
			}
		})
	}
}

func noSelector(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudget {
	b.Spec.Selector = nil
	return b
}
