package history

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// input is the eviction of a pod of Deployment web on a node of a zone, some time after noon.
func input(pod, node, zone string, after time.Duration) *policies.Input {
	in := &policies.Input{
		Now:   metav1.NewTime(noon.Add(after)),
		Pod:   &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: pod, UID: types.UID("uid-" + pod)}},
		Owner: &policies.Owner{Kind: "Deployment", Name: "web", UID: "web"},
	}
	if node != "" {
		in.Pod.Spec.NodeName = node
		in.Node = &policies.Node{Name: node, Labels: map[string]string{corev1.LabelTopologyZone: zone}}
	}
	return in
}

func answer(code int32, violations ...policies.Violation) func() *policies.Decision {
	return func() *policies.Decision { return &policies.Decision{Code: code, Violations: violations} }
}

func holding(policy string) policies.Violation {
	return policies.Violation{Policy: policy, Effect: policies.Delay, Enforcement: policies.Enforce}
}

// past are the times of evictions, each some time after noon.
func past(after ...time.Duration) []metav1.Time {
	var list []metav1.Time
	for _, a := range after {
		list = append(list, metav1.NewTime(noon.Add(a)))
	}
	return list
}

var everything = policies.EverythingNeeded()

// see is what the policies see at an attempt that is refused, and so leaves nothing behind but holds.
func see(l *Ledger, in *policies.Input) *policies.History {
	l.Decide(in, everything, answer(429))
	return in.History
}

func TestAnAdmittedEvictionStandsInEveryListItShares(t *testing.T) {
	l := New()
	l.Decide(input("web-1", "n1", "east", 0), everything, answer(200))
	l.Decide(input("web-2", "n2", "east", time.Minute), everything, answer(200))
	other := input("db-1", "n2", "west", 2*time.Minute)
	other.Owner = nil
	l.Decide(other, everything, answer(200))

	want := &policies.History{
		Owner:     past(time.Minute, 0),
		Node:      past(2*time.Minute, time.Minute),
		Zone:      past(time.Minute, 0),
		Namespace: past(2*time.Minute, time.Minute, 0),
		Cluster:   past(2*time.Minute, time.Minute, 0),
		Holds:     map[string]metav1.Time{},
	}
	if diff := cmp.Diff(want, see(l, input("web-3", "n2", "east", 3*time.Minute))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	bare := input("job", "", "", 3*time.Minute)
	bare.Owner = nil
	want.Owner, want.Node, want.Zone = nil, nil, nil
	if diff := cmp.Diff(want, see(l, bare)); diff != "" {
		t.Errorf("a bare pod on no node, -want +got:\n%s", diff)
	}
}

func TestWhatIsNotCounted(t *testing.T) {
	for name, before := range map[string]func(*Ledger){
		"a refusal": func(l *Ledger) { l.Decide(input("web-1", "n1", "east", 0), everything, answer(429)) },
		"a dry run": func(l *Ledger) {
			in := input("web-1", "n1", "east", 0)
			in.Request.DryRun = true
			l.Decide(in, everything, answer(200))
		},
		"the pod's own, admitted before and refused behind us": func(l *Ledger) { l.Decide(input("web-2", "n1", "east", 0), everything, answer(200)) },
		"an eviction of the day before": func(l *Ledger) {
			l.Decide(input("web-1", "n1", "east", time.Hour-maxAge-time.Second), everything, answer(200))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			before(l)
			h := see(l, input("web-2", "n1", "east", time.Hour))
			if len(h.Owner)+len(h.Node)+len(h.Namespace)+len(h.Zone)+len(h.Cluster) > 0 {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestAPodAdmittedAgainCountsOnce(t *testing.T) {
	l := New()
	for i := range 5 {
		l.Decide(input("web-1", "n1", "east", time.Duration(i)*5*time.Second), everything, answer(200))
	}
	if diff := cmp.Diff(past(20*time.Second), see(l, input("web-2", "n1", "east", time.Minute)).Owner); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOnlyWhatIsReadIsListed(t *testing.T) {
	set, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte("package eviction.x\n\ndelay contains \"x\" if count(input.history.owner) > 0\n")}})
	if err != nil {
		t.Fatal(err)
	}
	l := New()
	l.Decide(input("web-1", "n1", "east", 0), set.Needs(), answer(200))
	in := input("web-2", "n1", "east", time.Minute)
	l.Decide(in, set.Needs(), answer(200))
	if diff := cmp.Diff(&policies.History{Owner: past(0)}, in.History, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	none := input("web-3", "n1", "east", time.Minute)
	l.Decide(none, policies.None().Needs(), answer(200))
	if none.History != nil || len(l.list(key{"owner", "web"}, input("web-4", "", "", time.Hour), maxListed)) != 2 {
		t.Error("policies that read no history have none, and add nothing to it")
	}
}

func TestHolds(t *testing.T) {
	attempt := func(l *Ledger, after time.Duration, d func() *policies.Decision) map[string]metav1.Time {
		in := input("web-1", "n1", "east", after)
		l.Decide(in, everything, d)
		return in.History.Holds
	}
	at := func(after time.Duration) metav1.Time { return metav1.NewTime(noon.Add(after)) }
	l := New()
	attempt(l, 0, answer(429, holding("freeze")))
	attempt(l, time.Hour, answer(429, holding("freeze"), holding("quorum")))
	expired := holding("freeze")
	expired.Enforcement, expired.Expired = policies.Warn, &policies.Expired{}
	if diff := cmp.Diff(map[string]metav1.Time{"freeze": at(0), "quorum": at(time.Hour)}, attempt(l, 25*time.Hour, answer(200, expired))); diff != "" {
		t.Errorf("since when they hold, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]metav1.Time{"freeze": at(0)}, attempt(l, 26*time.Hour, answer(200))); diff != "" {
		t.Errorf("an expired hold goes on, one that ended does not, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]metav1.Time{}, attempt(l, 27*time.Hour, answer(429, holding("freeze")))); diff != "" {
		t.Errorf("after an attempt that nothing held, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]metav1.Time{}, attempt(l, 27*time.Hour+holdForgotten, answer(200))); diff != "" {
		t.Errorf("nobody tried for long, -want +got:\n%s", diff)
	}
}

// Of many evictions at once no more are admitted than the limit allows.
func TestConcurrentDecisionsKnowOfEachOther(t *testing.T) {
	const limit = 3
	l := New()
	var admitted sync.Map
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			in := input(fmt.Sprintf("web-%d", i), "n1", "east", 0)
			d := l.Decide(in, everything, func() *policies.Decision {
				if len(in.History.Owner) >= limit {
					return answer(429)()
				}
				return answer(200)()
			})
			if d.Allowed() {
				admitted.Store(i, true)
			}
		})
	}
	group.Wait()
	count := 0
	admitted.Range(func(any, any) bool { count++; return true })
	if count != limit {
		t.Errorf("%d admitted, the limit is %d", count, limit)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l := New()
	for i := range maxListed + 10 {
		l.Decide(input(fmt.Sprintf("web-%d", i), "n1", "east", time.Duration(i)*time.Second), everything, answer(200))
	}
	for _, pod := range []string{"web-x", fmt.Sprintf("web-%d", maxListed)} {
		if n := len(see(l, input(pod, "n1", "east", time.Hour)).Owner); n != maxListed {
			t.Errorf("%d listed for %s, want %d", n, pod, maxListed)
		}
	}
	needs := policiesWithHolds(t)
	for i := range maxHeld + 10 {
		l.Decide(input(fmt.Sprintf("held-%d", i), "n1", "east", 2*time.Hour), needs, answer(429, holding("freeze")))
	}
	if len(l.held) != maxHeld {
		t.Errorf("%d pods held, want %d", len(l.held), maxHeld)
	}
}

// A limit of more evictions than are listed would never hold.
func TestRateLimitsAreOfWhatIsListed(t *testing.T) {
	for limit, refused := range map[int]bool{maxListed: false, maxListed + 1: true} {
		_, err := source.Compile([]policies.File{{Name: "x.yaml", Data: fmt.Appendf(nil, `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: limit}
spec:
  library: rate_limit
  parameters: {limits: [{per: cluster, max: %d, period: 1h}]}
`, limit)}})
		if (err != nil) != refused {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}
}

// policiesWithHolds are the needs of a set that reads only holds.
func policiesWithHolds(t *testing.T) *policies.Needs {
	t.Helper()
	set, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte("package eviction.x\n\ndelay contains \"x\" if count(input.history.holds) > 1\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return set.Needs()
}

func TestNoLedgerNoHistory(t *testing.T) {
	var none *Ledger
	in := input("web-1", "n1", "east", 0)
	if d := none.Decide(in, everything, answer(200)); d.Code != 200 || in.History != nil {
		t.Errorf("%+v %+v", d, in.History)
	}
}

// A policy that says how far it looks back is given no more.
func TestOnlySoManyAreListed(t *testing.T) {
	const limited = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: limited}
spec:
  library: rate_limit
  parameters: {limits: [{per: node, max: 2, period: 1h}, {per: node, max: 3, period: 2h}, {per: cluster, max: 1, period: 1h}]}
`
	const cooldown = `
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: apart}
spec: {library: cooldown}
`
	const whole = "package eviction.whole\n\nwarn contains \"x\" if count(input.history.cluster) > 100\n"
	for name, tt := range map[string]struct {
		files []policies.File
		want  map[string]int
	}{
		"limits":                {[]policies.File{{Name: "a.yaml", Data: []byte(limited)}}, map[string]int{"node": 3, "cluster": 1}},
		"limits and the last":   {[]policies.File{{Name: "a.yaml", Data: []byte(limited + cooldown)}}, map[string]int{"node": 3, "cluster": 1, "owner": 1}},
		"one that does not say": {[]policies.File{{Name: "a.yaml", Data: []byte(limited)}, {Name: "b.rego", Data: []byte(whole)}}, map[string]int{"node": 3, "cluster": 9}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := source.Compile(tt.files)
			if err != nil {
				t.Fatal(err)
			}
			l := New()
			for i := range 9 {
				l.Decide(input(fmt.Sprintf("web-%d", i), "n1", "east", time.Duration(i)*time.Second), set.Needs(), answer(200))
			}
			in := input("web-x", "n1", "east", time.Minute)
			l.Decide(in, set.Needs(), answer(200))
			got := map[string]int{}
			for scope, list := range map[string][]metav1.Time{"owner": in.History.Owner, "node": in.History.Node, "namespace": in.History.Namespace, "zone": in.History.Zone, "cluster": in.History.Cluster} {
				if len(list) > 0 {
					got[scope] = len(list)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
