package policies

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// decisionOnly leaves out what is not the same in every run.
var decisionOnly = cmp.Options{cmpopts.IgnoreFields(Decision{}, "Duration", "Revision"), cmpopts.EquateEmpty()}

func denied(policy, reason string) Violation {
	return Violation{Policy: policy, Effect: Deny, Enforcement: Enforce, Reason: reason, Detail: map[string]any{}}
}

func TestEvaluate(t *testing.T) {
	const fix = ", so this eviction is not decided; fix the policy (the log of evictgate names the line), or bind it with enforcement Audit"
	for name, tt := range map[string]struct {
		files []File
		want  Decision
	}{
		"no violation admits": {
			files: []File{policy("x", `deny contains "never" if input.request.name == "db-0"`)},
			want:  Decision{Outcome: Admitted, Code: 200},
		},
		"a violation says reason and detail": {
			files: []File{policy("x", `deny contains {"reason": $"held by {input.pod.metadata.labels.app}", "detail": {"n": 2, "at": time.format(time.now_ns())}} if true`)},
			want: Decision{
				Outcome: Denied, Code: 403, Reason: "Forbidden", Message: "held by web (policy x)",
				Violations: []Violation{{Policy: "x", Effect: Deny, Enforcement: Enforce, Reason: "held by web", Detail: map[string]any{"n": json.Number("2"), "at": "2026-11-23T12:00:00Z"}}},
				Causes:     []Cause{{Type: PolicyCause, Field: "x", Message: "held by web"}},
			},
		},
		"a plain string is its own reason, on one line": {
			files: []File{policy("x", `deny contains "held\n by\tx\u0085 "`)},
			want: Decision{
				Outcome: Denied, Code: 403, Reason: "Forbidden", Message: "held by x (policy x)",
				Violations: []Violation{denied("x", "held by x")}, Causes: []Cause{{Type: PolicyCause, Field: "x", Message: "held by x"}},
			},
		},
		"violations without a reason are a failure, and the others count": {
			files: []File{policy("x", "deny contains object.union({\"detail\": {}}, {})\n\ndeny contains {\"reason\": \" \\n \"}\n\ndeny contains \"held\"\n\ndeny contains x if some x in [7]"), policy("y", `delay contains "later"`)},
			want: Decision{
				Outcome: Denied, Code: 403, Reason: "Forbidden", Message: "held (policy x)",
				Violations: []Violation{denied("x", "held"), {Policy: "y", Effect: Delay, Enforcement: Enforce, Reason: "later"}},
				Failures:   []Failure{{Policy: "x", Enforcement: Enforce, Error: `x.rego: a member of deny has no reason: 7; write {"reason": "…", "detail": {…}}`}},
				Causes:     []Cause{{Type: PolicyCause, Field: "x", Message: "held"}},
				Warnings:   []string{"later (policy y)", `policy x could not be evaluated: x.rego: a member of deny has no reason: 7; write {"reason": "…", "detail": {…}}`},
			},
		},
		"a policy that errs is named with its line, and the others count": {
			files: []File{policy("a", `delay contains "later"`), policy("x", "deny contains \"x\" if {\n\ttime.parse_duration_ns(\"x\") > 0\n}")},
			want: Decision{
				Outcome: Delayed, Code: 429, Reason: "TooManyRequests", Message: "later (policy a)",
				Violations: []Violation{{Policy: "a", Effect: Delay, Enforcement: Enforce, Reason: "later"}},
				Failures:   []Failure{{Policy: "x", Enforcement: Enforce, Error: `x.rego:4:2: time.parse_duration_ns: time: invalid duration "x"`}},
				Causes:     []Cause{{Type: PolicyCause, Field: "a", Message: "later"}},
				Warnings:   []string{`policy x could not be evaluated: x.rego:4:2: time.parse_duration_ns: time: invalid duration "x"`},
			},
		},
		"complete rules that conflict are named with their line": {
			files: []File{policy("x", "deny contains $\"held {_size}\" if true\n\n_size := 1 if input.request.name != \"\"\n\n_size := 2 if input.request.name != \"\"")},
			want: Decision{
				Outcome: Undecided, Code: 429, Reason: "TooManyRequests", Message: "policy x could not be evaluated" + fix,
				Failures: []Failure{{Policy: "x", Enforcement: Enforce, Error: "x.rego:7:1: rule data.eviction.x._size produced conflicting values: 1 at x.rego:5 2 at x.rego:7"}},
				Warnings: []string{"policy x could not be evaluated: x.rego:7:1: rule data.eviction.x._size produced conflicting values: 1 at x.rego:5 2 at x.rego:7"},
			},
		},
		"several failures are all named": {
			files: []File{policy("x", "deny contains x if some x in [1]"), policy("y", "deny contains x if some x in [2]"), bind("z", "enforcement: Audit\n"+inline("z", "deny contains x if some x in [3]")), bind("w", "enforcement: Warn\n"+inline("w", "deny contains x if some x in [4]"))},
			want: Decision{
				Outcome: Undecided, Code: 429, Reason: "TooManyRequests", Message: "policies x, y could not be evaluated" + fix,
				Failures: []Failure{
					{Policy: "w", Enforcement: Warn, Error: `w.yaml: a member of deny has no reason: 4; write {"reason": "…", "detail": {…}}`},
					{Policy: "x", Enforcement: Enforce, Error: `x.rego: a member of deny has no reason: 1; write {"reason": "…", "detail": {…}}`},
					{Policy: "y", Enforcement: Enforce, Error: `y.rego: a member of deny has no reason: 2; write {"reason": "…", "detail": {…}}`},
					{Policy: "z", Enforcement: Audit, Error: `z.yaml: a member of deny has no reason: 3; write {"reason": "…", "detail": {…}}`},
				},
				Warnings: []string{
					`policy w could not be evaluated: w.yaml: a member of deny has no reason: 4; write {"reason": "…", "detail": {…}}`,
					`policy x could not be evaluated: x.rego: a member of deny has no reason: 1; write {"reason": "…", "detail": {…}}`,
					`policy y could not be evaluated: y.rego: a member of deny has no reason: 2; write {"reason": "…", "detail": {…}}`,
				},
			},
		},
		"a failure of a policy that only warns admits": {
			files: []File{bind("w", "enforcement: Warn\n"+inline("w", `deny contains "x" if to_number("x") > 1`))},
			want: Decision{
				Outcome: Admitted, Code: 200,
				Failures: []Failure{{Policy: "w", Enforcement: Warn, Error: `w.yaml (w spec.rego):3:22: to_number: strconv.ParseFloat: parsing "x": invalid syntax`}},
				Warnings: []string{`policy w could not be evaluated: w.yaml (w spec.rego):3:22: to_number: strconv.ParseFloat: parsing "x": invalid syntax`},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := compiled(t, tt.files...).Evaluate(t.Context(), inputFor(), patient)
			if diff := cmp.Diff(&tt.want, got, decisionOnly); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTwoBindingsOfOnePolicy(t *testing.T) {
	set := compiled(t,
		bind("a-delays", "library: do_not_disrupt"),
		bind("b-denies", "library: do_not_disrupt\nparameters: {effect: deny}"),
		bind("c-warns", "library: do_not_disrupt\nenforcement: Warn\nmatch:\n  evictors: [{kind: karpenter}]"))
	in := inputFor(func(in *Input) { in.Pod.Annotations = map[string]string{"evictgate.dev/do-not-disrupt": "true"} })
	var got []string
	for _, v := range set.Evaluate(t.Context(), in, Options{}).Violations {
		got = append(got, fmt.Sprint(v.Policy, " ", v.Effect, " ", v.Enforcement))
	}
	if diff := cmp.Diff([]string{"b-denies deny enforce", "a-delays delay enforce"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// endless would run for hours; OPA looks at its cancellation in the loop.
const endless = "deny contains \"x\" if {\n\tsome i in numbers.range(1, 100000)\n\tsome j in numbers.range(1, 100000)\n\ti * j == -1\n}"

func TestAPolicyThatNeverEndsIsStopped(t *testing.T) {
	set := compiled(t, policy("a", endless), policy("b", `delay contains "later"`))
	stopped := "a.rego:4:12: stopped after 10000 steps, which is the limit of one policy; let it look at less, or give policies more by --policy-steps"
	want := &Decision{
		Outcome: Delayed, Code: 429, Reason: "TooManyRequests", Message: "later (policy b)",
		Violations: []Violation{{Policy: "b", Effect: Delay, Enforcement: Enforce, Reason: "later"}},
		Failures:   []Failure{{Policy: "a", Enforcement: Enforce, Error: stopped}},
		Causes:     []Cause{{Type: PolicyCause, Field: "b", Message: "later"}},
		Warnings:   []string{"policy a could not be evaluated: " + stopped},
	}
	for range 3 { // always at the same step
		got := set.Evaluate(t.Context(), inputFor(), Options{PolicySteps: 10_000})
		if diff := cmp.Diff(want, got, decisionOnly); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestTheDeadlineOfTheReviewIsKept(t *testing.T) {
	set := compiled(t, policy("a", endless), policy("b", endless))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d := set.Evaluate(ctx, inputFor(), Options{})
	if d.Outcome != Undecided || d.Code != 429 || len(d.Failures) != 2 {
		t.Fatalf("outcome %s, code %d, failures %v", d.Outcome, d.Code, d.Failures)
	}
	for _, f := range d.Failures {
		if !strings.HasPrefix(f.Error, f.Policy+".rego") || !strings.HasSuffix(f.Error, ": not evaluated in the time the API server gives the webhook") {
			t.Errorf("failure of %s: %s", f.Policy, f.Error)
		}
	}
}

func TestPodsThatTheAPIServerLetsGoAreNotAsked(t *testing.T) {
	set := compiled(t, policy("x", `deny contains "always"`))
	phase := func(p corev1.PodPhase) func(*Input) { return func(in *Input) { in.Pod.Status.Phase = p } }
	for name, tt := range map[string]struct {
		change func(*Input)
		want   Outcome
	}{
		"a running pod":            {phase(corev1.PodRunning), Denied},
		"a pod whose node is lost": {phase(corev1.PodUnknown), Denied},
		"a pending pod":            {phase(corev1.PodPending), Admitted},
		"a pod that has succeeded": {phase(corev1.PodSucceeded), Admitted},
		"a pod that has failed":    {phase(corev1.PodFailed), Admitted},
		"a terminating pod":        {func(in *Input) { in.Pod.DeletionTimestamp = &noon }, Admitted},
		"a pod that is not known":  {func(in *Input) { in.Pod = nil }, Admitted},
	} {
		t.Run(name, func(t *testing.T) {
			d := set.Evaluate(t.Context(), inputFor(tt.change), Options{})
			if d.Outcome != tt.want || (tt.want == Admitted && len(d.Violations) > 0) {
				t.Errorf("outcome %s with %v, want %s", d.Outcome, d.Violations, tt.want)
			}
		})
	}
}

func TestManyGoroutinesShareASet(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	var inputs []*Input
	var want []*Decision
	for i := range 8 {
		in := evictable(func(n int) int { return (i*7 + n) % (n + 1) })
		inputs = append(inputs, in)
		want = append(want, set.Evaluate(t.Context(), in, Options{}))
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 8 {
				k := (g + i) % len(inputs)
				if diff := cmp.Diff(want[k], set.Evaluate(t.Context(), inputs[k], Options{}), decisionOnly); diff != "" {
					t.Errorf("input %d -alone +among many:\n%s", k, diff)
				}
			}
		})
	}
	wg.Wait()
}

// evictable is an eviction on which the library's policies have something to say; pick(n) chooses
// among 0..n.
func evictable(pick func(n int) int) *Input {
	start := metav1.NewTime(noon.Add(-time.Duration(pick(4)) * time.Hour))
	number := func() *int32 { return []*int32{nil, ptr[int32](0), ptr[int32](1), ptr[int32](3)}[pick(3)] }
	in := inputFor(func(in *Input) {
		in.Request.Namespace = []string{"shop", "kube-system"}[pick(1)]
		in.Request.Evictor = []string{"user", "karpenter"}[pick(1)]
		in.Pod.Annotations = map[string]string{
			[]string{"karpenter.sh/do-not-disrupt", "evictgate.dev/do-not-disrupt", "other"}[pick(2)]: []string{"true", "false", "2h", "nonsense", ""}[pick(4)],
			"cluster-autoscaler.kubernetes.io/safe-to-evict":                                          []string{"true", "false", "maybe"}[pick(2)],
		}
		in.Pod.Spec.Priority = number()
		in.Pod.Status.Conditions[0].Status = []corev1.ConditionStatus{"True", "False"}[pick(1)]
		in.Pod.Status.StartTime = []*metav1.Time{nil, &start}[pick(1)]
		if pick(3) > 0 {
			in.Owner = &Owner{Kind: []string{"Deployment", "StatefulSet", "Job"}[pick(2)], Name: "web", UID: "o", Replicas: number(), ReadyReplicas: number(), MissingReplicas: number()}
		}
		for i := range pick(3) {
			in.Peers = append(in.Peers, Peer{Name: fmt.Sprint("web-", i+1), Node: "n", Zone: []string{"", "a", "b"}[pick(2)], Ready: pick(1) == 0, Phase: "Running"})
			b := Budget{
				Name:         fmt.Sprint("b-", i),
				Selector:     []*metav1.LabelSelector{nil, {}, {MatchLabels: map[string]string{"app": "web"}}}[pick(2)],
				ExpectedPods: int32(pick(3)), DisruptionsAllowed: int32(pick(1)),
			}
			// The API lets a budget have one of the two.
			limit := []**string{&b.MinAvailable, &b.MaxUnavailable}[pick(1)]
			*limit = ptr([]string{"0", "1", "100%"}[pick(2)])
			in.Budgets = append(in.Budgets, b)
		}
		if pick(1) > 0 {
			in.Node = &Node{Name: "n", Unschedulable: pick(1) == 0}
		}
		if pick(1) > 0 {
			in.Cluster = &Cluster{Nodes: 20, ReadyNodes: 17 + int32(pick(3)), NotReadyNodes: []string{"n", "o"}}
		}
		if pick(1) > 0 {
			past := []metav1.Time{start, start}
			in.History = &History{Owner: past, Node: past[pick(2):], Cluster: past}
		}
		if pick(1) > 0 {
			in.Disruption = &Disruption{Code: []int32{429, 500, 403}[pick(2)], Message: BudgetSentence, Detail: "Budget shop/b needs 1", Budgets: []string{"b"}}
		}
	})
	in.Pod.Namespace, in.Namespace.Name = in.Request.Namespace, in.Request.Namespace
	return in
}

func anyEvictable() *rapid.Generator[*Input] {
	return rapid.Custom(func(t *rapid.T) *Input {
		return evictable(func(n int) int { return rapid.IntRange(0, n).Draw(t, "pick") })
	})
}

// librarySets are the library as it is shipped, and with everything enforcing.
func librarySets(t testing.TB) []*Set {
	t.Helper()
	shipped, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for _, p := range shipped.Policies() {
		examples, err := json.Marshal(p.Metadata.Parameters.Examples())
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, bind(strings.ReplaceAll(p.Policy, "_", "-"), fmt.Sprintf("library: %s\nparameters: %s", p.Policy, examples)))
	}
	return []*Set{shipped, compiled(t, files...)}
}

// forgetful is a set that evaluates every time.
func forgetful(set *Set) *Set {
	other := *set
	other.bound = nil
	for _, p := range set.bound {
		without := *p
		without.memo, without.leaves = nil, nil
		other.bound = append(other.bound, &without)
	}
	return &other
}

var patient = Options{}

func TestAPrunedAndAFullInputDecideAlike(t *testing.T) {
	for _, set := range librarySets(t) {
		full := forgetful(set)
		full.needs = NeedsOf([]ast.Ref{{ast.InputRootDocument}})
		full.project = full.needs.projector(reflect.TypeFor[Input]())
		rapid.Check(t, func(t *rapid.T) {
			in := anyEvictable().Draw(t, "input")
			if diff := cmp.Diff(full.Evaluate(context.Background(), in, patient), set.Evaluate(context.Background(), in, patient), decisionOnly); diff != "" {
				t.Fatalf("-full +pruned:\n%s", diff)
			}
		})
	}
}

// Budgets are sorted where they are gathered; see the property of the same name in webhook/cluster.
func TestTheDecisionDoesNotDependOnTheOrderOfPeers(t *testing.T) {
	peers := policy("spread", "deny contains $\"{p.name} is ready in {p.zone}\" if {\n\tsome p in input.peers\n\tp.ready\n}")
	for _, set := range append(librarySets(t), compiled(t, peers)) {
		rapid.Check(t, func(t *rapid.T) {
			in := anyEvictable().Draw(t, "input")
			other := *in
			other.Peers = rapid.Permutation(in.Peers).Draw(t, "peers")
			if diff := cmp.Diff(set.Evaluate(context.Background(), in, patient), set.Evaluate(context.Background(), &other, patient), decisionOnly); diff != "" {
				t.Fatalf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestARefusalTellsWhyInOneLineForEveryPod(t *testing.T) {
	seen := map[Outcome]bool{}
	for _, set := range librarySets(t) {
		rapid.Check(t, func(t *rapid.T) {
			in := anyEvictable().Draw(t, "input")
			in.Pod.Name, in.Request.Name = "web-0-evicted", "web-0-evicted"
			d := set.Evaluate(context.Background(), in, patient)
			seen[d.Outcome] = true
			switch {
			case d.Allowed():
				return
			case len(d.Failures) > 0:
				t.Fatalf("failures: %v", d.Failures)
			case d.Message == "" || len(d.Causes) == 0:
				t.Fatalf("no reason: message %q, causes %v", d.Message, d.Causes)
			case d.Message != rego.OneLine(d.Message):
				t.Fatalf("control characters in %q", d.Message)
			case strings.Contains(d.Message, in.Pod.Name):
				t.Fatalf("the pod's own name in %q", d.Message)
			}
			for _, c := range d.Causes {
				if c.Message == "" || c.Field == "" {
					t.Fatalf("an empty cause: %+v", c)
				}
			}
			if i := slices.IndexFunc(d.Warnings, func(w string) bool { return w == "" || w != rego.OneLine(w) }); i >= 0 {
				t.Fatalf("a bad warning: %q", d.Warnings[i])
			}
		})
	}
	if !seen[Admitted] || !seen[Delayed] || !seen[Denied] {
		t.Errorf("the inputs are too tame: only %v", seen)
	}
}

// A keyword may be an id: the query is made of refs that OPA reads back.
func TestAKeywordIsAnID(t *testing.T) {
	set := compiled(t, File{Name: "x.rego", Data: []byte("package eviction[\"not\"]\n\ndeny contains \"x\"\n")})
	d := set.Evaluate(t.Context(), inputFor(), Options{})
	if d.Outcome != Denied || d.Message != "x (policy not)" {
		t.Errorf("outcome %s, message %q", d.Outcome, d.Message)
	}
}

func BenchmarkEvaluateDefault(b *testing.B) {
	set, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	in := inputFor()
	b.ReportAllocs()
	for b.Loop() {
		if d := set.Evaluate(b.Context(), in, Options{}); len(d.Failures) > 0 {
			b.Fatal(d.Failures)
		}
	}
}
