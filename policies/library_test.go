package policies_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/suite"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// libraryDir is the library as files, beside the embedded copy.
const libraryDir = "eviction"

// testsPerPolicy is the least number of Rego tests: admits, refuses, the boundary, optional parts
// missing, two violations at once.
const testsPerPolicy = 5

func TestLibraryPoliciesAreComplete(t *testing.T) {
	entries, err := os.ReadDir(libraryDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id := e.Name()
		t.Run(id, func(t *testing.T) {
			dir := filepath.Join(libraryDir, id)
			for _, part := range []string{id + ".rego", id + "_test.rego", "suite.yaml", "samples/*.yaml"} {
				if found, err := filepath.Glob(filepath.Join(dir, part)); err != nil || len(found) == 0 {
					t.Errorf("%s is missing (%v)", filepath.Join(dir, part), err)
				}
			}
			module := parseRego(t, filepath.Join(dir, id+".rego"))
			if got, want := module.Package.Path.String(), "data.eviction."+id; got != want {
				t.Errorf("package is %s, the folder wants %s", got, want)
			}
			checkMetadata(t, id, module)
		})
	}
}

func checkMetadata(t *testing.T, id string, module *ast.Module) {
	t.Helper()
	at := slices.IndexFunc(module.Annotations, func(a *ast.Annotations) bool { return a.Scope == "package" })
	if at < 0 {
		t.Fatal("no METADATA above the package")
	}
	meta := module.Annotations[at]
	if meta.Title == "" || meta.Description == "" || len(meta.RelatedResources) == 0 {
		t.Error("METADATA: title, description or related_resources is missing")
	}
	if meta.Custom["id"] != id {
		t.Errorf("METADATA: custom.id is %v, the folder wants %s", meta.Custom["id"], id)
	}
	if e, _ := meta.Custom["enforcement"].(string); !slices.Contains([]string{"enforce", "warn", "audit"}, e) {
		t.Errorf("METADATA: custom.enforcement is %v; expected enforce, warn or audit", meta.Custom["enforcement"])
	}
}

func TestLibraryIsFormatted(t *testing.T) {
	for _, file := range regoFiles(t) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		formatted, err := suite.Format(file, src)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		} else if string(formatted) != string(src) {
			t.Errorf("%s is not formatted; run evictgate policy fmt -w on it", file)
		}
	}
}

// TestLibrary runs every *_test.rego and every suite.yaml, as policy test does.
func TestLibrary(t *testing.T) {
	report, err := suite.Test(t.Context(), suite.TestOptions{Gather: cluster.GatherSample}, libraryDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Directories {
		id := filepath.Base(d.Directory)
		for _, r := range d.Results {
			t.Run(id+"/"+r.Name, func(t *testing.T) {
				for _, difference := range r.Differences {
					t.Errorf("%s:%d: %s", r.File, r.Row, difference)
				}
			})
		}
		if n := countTests(d); n < testsPerPolicy {
			t.Errorf("%s has %d Rego tests; a policy wants %d: admits, refuses, the boundary, optional parts missing, two violations at once", id, n, testsPerPolicy)
		}
		if d.Cases == 0 || d.Skipped > 0 {
			t.Errorf("%s: %d cases, %d tests skipped", id, d.Cases, d.Skipped)
		}
	}
}

// countTests counts the Rego tests; one with several cases is one.
func countTests(d suite.TestDirectory) int {
	names := map[string]bool{}
	for _, r := range d.Results {
		if !r.Case {
			name, _, _ := strings.Cut(r.Name, "[")
			names[name] = true
		}
	}
	return len(names)
}

func regoFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(libraryDir, "*", "*.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies in %s: %v", libraryDir, err)
	}
	return files
}

func parseRego(t *testing.T, file string) *ast.Module {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	module, err := ast.ParseModuleWithOpts(file, string(src), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// TestLibraryNeverFails binds every policy with parameters of every shape that it accepts, and gives it
// pods that lack what may be lacking: a policy that fails would leave every eviction undecided.
func TestLibraryNeverFails(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	set := mustCompile(t, bindingsAtRandom(t, r, 12))
	for _, in := range anyInputs(r) {
		if d := set.Evaluate(t.Context(), in, policies.Options{}); len(d.Failures) > 0 {
			raw, _ := set.Read(in).JSON()
			t.Fatalf("%v\n%s", d.Failures[0], raw)
		}
	}
}

// TestExplanationsAgreeWithDecisions holds what Explain says that rules found to what Evaluate finds.
func TestExplanationsAgreeWithDecisions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	set, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, in := range anyInputs(r) {
		reading := set.Read(in)
		want := map[string]bool{}
		for _, v := range reading.Evaluate(t.Context(), policies.Options{}).Violations {
			want[fmt.Sprint(v.Policy, v.Effect, v.Reason, v.Detail)] = true
		}
		got := map[string]bool{}
		list, err := suite.Explain(t.Context(), reading, policies.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			for _, rule := range e.Rules {
				for _, v := range rule.Violations {
					got[fmt.Sprint(v.Policy, v.Effect, v.Reason, v.Detail)] = true
				}
				if (len(rule.Violations) == 0) != (rule.Unmet != nil) || rule.Error != "" {
					t.Errorf("%s: neither a violation nor what is unmet: %+v", e.Policy, rule)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-evaluated +explained:\n%s", diff)
		}
		found += len(got)
	}
	if found == 0 {
		t.Error("no violation in any input")
	}
}

// TestLibraryIsRememberedAsItIsEvaluated asks one set again and again, and another one, with the same
// parameters of every shape, about each input for the first time.
func TestLibraryIsRememberedAsItIsEvaluated(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	files := bindingsAtRandom(t, r, 3)
	bound := func() *policies.Set { return mustCompile(t, files) }
	set := bound()
	inputs := anyInputs(r)
	for _, in := range inputs {
		set.Evaluate(t.Context(), in, policies.Options{})
	}
	for i, in := range inputs {
		in.Request.UID, in.Now.Time = fmt.Sprint("r", i), in.Now.Add(time.Duration(r.IntN(2000))*time.Millisecond)
		reading := set.Read(in)
		got := reading.Evaluate(t.Context(), policies.Options{})
		want := bound().Evaluate(t.Context(), in, policies.Options{})
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(policies.Decision{}, "Duration")); diff != "" {
			t.Fatalf("input %d -evaluated +remembered:\n%s", i, diff)
		}
		if _, remembered := reading.Answers(); remembered == 0 && i > 0 {
			t.Errorf("input %d: nothing was remembered", i)
		}
	}
}

// bindingsAtRandom binds every policy of the library some times, with parameters of every shape that it
// accepts.
func bindingsAtRandom(t *testing.T, r *rand.Rand, bindings int) []policies.File {
	t.Helper()
	library, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	var docs []string
	for _, p := range library.Policies() {
		accepted := acceptedBindings(t, r, p, bindings)
		if len(accepted) == 0 && bindings > 10 {
			t.Errorf("%s accepts none of the random parameters", p.Policy)
		}
		docs = append(docs, accepted...)
	}
	return []policies.File{{Name: "any.yaml", Data: []byte(strings.Join(docs, "\n---\n"))}}
}

func mustCompile(t *testing.T, files []policies.File) *policies.Set {
	t.Helper()
	set, err := source.Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// acceptedBindings are EvictionPolicies of one library policy with random parameters, but for those that
// are refused.
func acceptedBindings(t *testing.T, r *rand.Rand, of policies.BoundPolicy, tries int) []string {
	t.Helper()
	var docs []string
	for i := range tries {
		doc := libraryBinding(t, fmt.Sprintf("%s-%d", of.Policy, i), of.Policy, anyParameters(r, of.Metadata.Parameters))
		if _, err := source.Compile([]policies.File{{Name: "any.yaml", Data: doc}}); err == nil {
			docs = append(docs, string(doc))
		}
	}
	return docs
}

// libraryBinding is an EvictionPolicy of a library policy, as JSON.
func libraryBinding(t testing.TB, name, policy string, parameters map[string]any) []byte {
	t.Helper()
	raw, err := json.Marshal(parameters)
	if err != nil {
		t.Fatal(err)
	}
	var p v1alpha1.EvictionPolicy
	p.APIVersion, p.Kind = v1alpha1.APIVersion, v1alpha1.Kind
	p.Name, p.Spec.Library = name, policy
	p.Spec.Parameters = &runtime.RawExtension{Raw: raw}
	doc, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// words are values that the library's parameters and annotations know, and near misses.
var words = strings.Fields(`delay deny warn true false shop shop* kube-system user tier critical Mon Sunday Funday
	00:00 22:00 24:00 24:01 99:99 UTC Europe/Berlin Europe/Berln Local ../etc 2026-11-23T00:00:00Z
	2026-02-30T00:00:00Z 2027-01-01T00:00:00+23:59 2199-12-31T23:59:59.999999999-23:59 9999-12-31T00:00:00Z 4h -4h
	1h30m 9999999999h 0s h 99999h9999999m999999999s 1.5h 1..5h 0 3 1Gi 500M 1.5k 9n 100% 067% % é`)

func anyWord(r *rand.Rand) string { return words[r.IntN(len(words))] }

// anyParameters has each of a policy's parameters or not, often with the default or an example's type.
func anyParameters(r *rand.Rand, of *policies.Parameters) map[string]any {
	m := map[string]any{}
	if of == nil {
		return m
	}
	for _, name := range of.Names() {
		switch schema, _ := of.Properties[name].(map[string]any); r.IntN(4) {
		case 0:
		case 1:
			m[name] = anyValue(r, 2)
		default:
			m[name] = anyOfSchema(r, schema)
		}
	}
	return m
}

// anyOfSchema is an example, or a value of the type that a schema asks for, which may break its other
// rules.
func anyOfSchema(r *rand.Rand, schema map[string]any) any {
	if examples, ok := schema["examples"].([]any); ok && r.IntN(2) == 0 {
		return examples[r.IntN(len(examples))]
	}
	if options, ok := schema["enum"].([]any); ok {
		return options[r.IntN(len(options))]
	}
	switch schema["type"] {
	case "integer", "number":
		return r.IntN(200)
	case "boolean":
		return r.IntN(2) == 0
	case "array":
		items, _ := schema["items"].(map[string]any)
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = anyOfSchema(r, items)
		}
		return list
	case "object":
		properties, _ := schema["properties"].(map[string]any)
		m := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(properties)) { // the same for the same seed
			if p, ok := properties[name].(map[string]any); ok && r.IntN(2) == 0 {
				m[name] = anyOfSchema(r, p)
			}
		}
		if more, ok := schema["additionalProperties"].(map[string]any); ok {
			m[anyWord(r)] = anyOfSchema(r, more)
		}
		return m
	}
	return anyWord(r)
}

func anyValue(r *rand.Rand, depth int) any {
	kinds := 6
	if depth <= 0 {
		kinds = 4
	}
	switch r.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return []any{0, 1, -1, 1.5, 1e30, 1 << 40}[r.IntN(6)]
	case 4:
		return map[string]any{anyWord(r): anyValue(r, depth-1), anyWord(r): anyValue(r, depth-1)}
	case 5:
		return []any{anyValue(r, depth-1), anyWord(r)}[:r.IntN(3)]
	}
	return anyWord(r)
}

func anyInputs(r *rand.Rand) []*policies.Input {
	now := metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	starts := []*metav1.Time{nil, {}, &now, {Time: now.AddDate(9000, 0, 0)}, {Time: now.AddDate(-1900, 0, 0)}}
	inputs := []*policies.Input{{Now: now, Pod: &corev1.Pod{}}}
	for range 30 {
		pod := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: starts[r.IntN(len(starts))]}}
		for _, key := range []string{"karpenter.sh/do-not-disrupt", "evictgate.dev/do-not-disrupt", "cluster-autoscaler.kubernetes.io/safe-to-evict", "descheduler.alpha.kubernetes.io/prefer-no-eviction"} {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, anyWord(r))
		}
		limit := anyWord(r)
		in := &policies.Input{
			Now: now, Pod: pod, Request: policies.Request{Namespace: anyWord(r), Evictor: anyWord(r)},
			Namespace: &policies.Namespace{Labels: map[string]string{anyWord(r): anyWord(r)}},
			Owner:     &policies.Owner{Kind: "Rollout", Name: "web"},
			Cluster:   anyCluster(r), History: anyHistory(r, starts),
			Budgets: []policies.Budget{{Name: "a", MinAvailable: &limit}, {Name: "b", MaxUnavailable: &limit, Selector: &metav1.LabelSelector{}, ExpectedPods: 3}},
		}
		anySurroundings(r, in)
		inputs = append(inputs, in)
	}
	return inputs
}

// anySurroundings gives the pod volumes and marks, and an owner, a node and other pods around it, of which
// any part may be missing.
func anySurroundings(r *rand.Rand, in *policies.Input) {
	in.Pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, key := range []string{"evictgate.dev/session", "evictgate.dev/wanted-replicas", "evictgate.dev/gang-size", "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"} {
		metav1.SetMetaDataAnnotation(&in.Pod.ObjectMeta, key, anyWord(r))
	}
	in.Pod.Labels = map[string]string{"evictgate.dev/gang": "a", anyWord(r): anyWord(r)}
	in.Pod.Spec.Volumes = anyVolumes(r)
	if in.Owner.Kind = []string{"Rollout", "StatefulSet", "Deployment", "Job"}[r.IntN(4)]; r.IntN(2) == 0 {
		in.Owner.Replicas, in.Owner.ReadyReplicas, in.Owner.MissingReplicas = new(r.Int32N(4)), new(r.Int32N(4)), new(r.Int32N(3))
	}
	if r.IntN(4) == 0 {
		in.Owner = nil
	}
	if r.IntN(2) == 0 {
		in.Node = &policies.Node{Unschedulable: r.IntN(2) == 0, Taints: []corev1.Taint{{Key: anyWord(r)}}}
	}
	in.Request.Name, in.Claims = "db-0", []policies.Claim{{}, {Name: "a", NodeLocal: true}}
	for i := range r.IntN(4) {
		name, phase := fmt.Sprintf("%s-%d", anyWord(r), i), []string{"", "Running", "Failed", "Succeeded"}[r.IntN(4)]
		in.Peers = append(in.Peers, policies.Peer{Name: name, NodeUnschedulable: r.IntN(2) == 0, Ready: r.IntN(2) == 0, Phase: phase, Terminating: r.IntN(2) == 0})
		in.Neighbours = append(in.Neighbours, policies.Neighbour{Peer: policies.Peer{Name: name, Phase: phase, NodeUnschedulable: r.IntN(2) == 0}})
		if r.IntN(2) == 0 {
			in.Neighbours[i].Labels = map[string]string{"evictgate.dev/gang": "a"}
		}
	}
}

// anyVolumes are of every type that a policy may look at; one is of several, which the API server
// would refuse.
func anyVolumes(r *rand.Rand) []corev1.Volume {
	limited := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMedium(anyWord(r))}
	if limit, err := resource.ParseQuantity(anyWord(r)); err == nil {
		limited.SizeLimit = &limit
	}
	claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "a"}
	volumes := []corev1.Volume{
		{Name: "none"},
		{Name: "dir", VolumeSource: corev1.VolumeSource{EmptyDir: limited}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}},
		{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim}},
		{Name: "all", VolumeSource: corev1.VolumeSource{EmptyDir: limited, PersistentVolumeClaim: claim, Ephemeral: &corev1.EphemeralVolumeSource{}}},
	}
	return volumes[:r.IntN(len(volumes)+1)]
}

func anyCluster(r *rand.Rand) *policies.Cluster {
	if r.IntN(4) == 0 {
		return nil
	}
	return &policies.Cluster{Nodes: r.Int32N(20), ReadyNodes: r.Int32N(20), NotReadyNodes: words[:r.IntN(5)]}
}

func anyHistory(r *rand.Rand, times []*metav1.Time) *policies.History {
	if r.IntN(4) == 0 {
		return nil
	}
	past := func() []metav1.Time {
		list := make([]metav1.Time, r.IntN(4))
		for i := range list {
			if at := times[r.IntN(len(times))]; at != nil {
				list[i] = *at
			}
		}
		return list
	}
	return &policies.History{Owner: past(), Node: past(), Namespace: past(), Zone: past(), Cluster: past()}
}

// TestFreezeWindowKnowsTimeZones holds the list in the policy to the time zones that Go has: a name
// that cannot be loaded would fail the policy.
func TestFreezeWindowKnowsTimeZones(t *testing.T) {
	src, err := os.ReadFile(filepath.Join(libraryDir, "freeze_window", "freeze_window.rego"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(src), "_zones := `")
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '\n' || r == '`' })
	if len(names) < 500 {
		t.Fatalf("only %d time zones in the policy", len(names))
	}
	for _, name := range names {
		if _, err := time.LoadLocation(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkLibrary is the decision about an ordinary pod of a healthy workload with a budget and a spare
// pod, which no policy holds.
func BenchmarkLibrary(b *testing.B) {
	defaults, err := policies.Default()
	if err != nil {
		b.Fatal(err)
	}
	all, err := policies.Library()
	if err != nil {
		b.Fatal(err)
	}
	bench := func(name string, set *policies.Set) {
		b.Run(name, func(b *testing.B) { benchmarkAdmitted(b, set) })
	}
	bench("default", defaults)
	bench("all", all)
	for _, p := range all.Policies() {
		doc := libraryBinding(b, p.Policy, p.Policy, p.Metadata.Parameters.Examples())
		set, err := source.Compile([]policies.File{{Name: "one.yaml", Data: doc}})
		if err != nil {
			b.Fatal(err)
		}
		bench(p.Policy, set)
	}
}

// benchmarkAdmitted decides about the same pod again, and about one that is new to all policies.
func benchmarkAdmitted(b *testing.B, set *policies.Set) {
	in := ordinaryInput()
	if d := set.Evaluate(b.Context(), in, policies.Options{}); d.Outcome != policies.Admitted || len(d.Warnings) > 0 {
		b.Fatalf("the ordinary pod is not admitted in silence: %+v", d)
	}
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			set.Evaluate(b.Context(), in, policies.Options{})
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			in.Request.Namespace = strconv.Itoa(i)
			set.Evaluate(b.Context(), in, policies.Options{})
		}
	})
}

func ordinaryInput() *policies.Input {
	start := metav1.NewTime(time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-6d4cf56db6-x7k2p",
			Labels:      map[string]string{"app": "web", "pod-template-hash": "6d4cf56db6"},
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9102"},
		},
		Spec:   corev1.PodSpec{NodeName: "node-1", Priority: new(int32(0))},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start},
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: start})
	}
	return &policies.Input{
		Now:     metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)),
		Request: policies.Request{Namespace: "shop", Name: pod.Name, User: policies.User{Username: "admin"}, Evictor: "user"},
		Pod:     pod,
		Owner:   &policies.Owner{Kind: "Deployment", Name: "web", Replicas: new(int32(3)), ReadyReplicas: new(int32(4)), MissingReplicas: new(int32(0))},
		Budgets: []policies.Budget{{
			Name: "web", MinAvailable: new("2"), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			CurrentHealthy: 3, DesiredHealthy: 2, ExpectedPods: 3, DisruptionsAllowed: 1, Generation: 1, ObservedGeneration: 1,
		}},
	}
}
