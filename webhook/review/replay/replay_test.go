package replay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/test/harness/scale"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/replay"
)

// A week of decisions is made by the server's own gate, over a cluster of namespaces ns-0 to ns-3 with
// workloads w0 to w9 in each, of which w9 is a bare pod and the others Deployments of five pods.

var monday = time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)

func world(t testing.TB, r *rand.Rand) (*cluster.Snapshot, []*corev1.Pod) {
	t.Helper()
	var objects []runtime.Object
	var pods []*corev1.Pod
	for i := range 12 {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("z", i%3), "rack": fmt.Sprint(i % 2)}}}
		n.Spec.Unschedulable = i%4 == 0
		objects = append(objects, n)
	}
	for i := range 4 {
		namespace := fmt.Sprint("ns-", i)
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"team": fmt.Sprint(i % 2)}}})
		for w := range 10 {
			name := fmt.Sprint("w", w)
			more, some := workload(r, namespace, name, w == 9)
			objects, pods = append(objects, more...), append(pods, some...)
			if w%2 == 0 {
				allowed := int32(r.IntN(2))
				objects = append(objects, &policyv1.PodDisruptionBudget{
					ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
					Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
					Status:     policyv1.PodDisruptionBudgetStatus{ExpectedPods: 5, CurrentHealthy: 4 + allowed, DesiredHealthy: 4, DisruptionsAllowed: allowed},
				})
			}
		}
	}
	for _, p := range pods {
		objects = append(objects, p)
	}
	snapshot, err := cluster.SnapshotOf(objects...)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot, pods
}

func workload(r *rand.Rand, namespace, name string, bare bool) ([]runtime.Object, []*corev1.Pod) {
	yes := true
	uid := types.UID(namespace + "-" + name)
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}
	set := meta
	set.Name, set.UID = name+"-rs", uid+"-rs"
	set.OwnerReferences = []metav1.OwnerReference{{Kind: "Deployment", Name: name, UID: uid, Controller: &yes}}
	objects := []runtime.Object{
		&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: new(int32(5))}},
		&appsv1.ReplicaSet{ObjectMeta: set, Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(5))}},
	}
	var pods []*corev1.Pod
	for i := range 5 {
		started := metav1.NewTime(monday.Add(-time.Duration(r.IntN(100)) * time.Hour))
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, i), UID: types.UID(fmt.Sprintf("%s-%d", uid, i)), Labels: map[string]string{"app": name}, CreationTimestamp: started},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprint("node-", r.IntN(12)), Containers: []corev1.Container{{Name: "c", Image: "registry.example/" + name}}},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, StartTime: &started,
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: []corev1.ConditionStatus{"True", "True", "True", "False"}[r.IntN(4)], LastTransitionTime: started}},
			},
		}
		if r.IntN(15) == 0 {
			p.Status.Phase = corev1.PodPending
		}
		if r.IntN(8) == 0 {
			metav1.SetMetaDataAnnotation(&p.ObjectMeta, "karpenter.sh/do-not-disrupt", []string{"true", "200h"}[r.IntN(2)])
		}
		if !bare {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: set.Name, UID: set.UID, Controller: &yes}}
		}
		pods = append(pods, p)
	}
	if bare {
		return nil, pods[:1]
	}
	return objects, pods
}

// bound is the whole library, bound by its examples and a little less strict than that, with files in
// addition to it or instead of it.
func bound(t testing.TB, change map[string]string) *policies.Set {
	t.Helper()
	library, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	specs := map[string]string{}
	for i, p := range library.Policies() {
		examples, err := json.Marshal(p.Metadata.Parameters.Examples())
		if err != nil {
			t.Fatal(err)
		}
		enforcement := []string{"Enforce", "Warn", "Audit"}[i%3]
		specs[strings.ReplaceAll(p.Policy, "_", "-")] = fmt.Sprintf("library: %s\nenforcement: %s\nparameters: %s\nmatch:\n  podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [w%d, w%d]}]}", p.Policy, enforcement, examples, i%10, (i+5)%10)
	}
	specs["few"] = "library: rate_limit\nparameters: {limits: [{per: owner, max: 2, period: 10m}]}\nmaxHold: 2h"
	for name, spec := range change {
		specs[name] = spec
	}
	var files []policies.File
	for name, spec := range specs {
		if spec != "" {
			files = append(files, policies.File{Name: name + ".yaml", Data: fmt.Appendf(nil, "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: %s}\nspec:\n  %s\n", name, strings.ReplaceAll(spec, "\n", "\n  "))})
		}
	}
	set, err := source.Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// counted is an output that knows how many lines it was given.
type counted struct {
	io.Writer
	lines atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.lines.Add(int64(bytes.Count(p[:n], []byte("\n"))))
	return n, err
}

// aWeek sends n reviews through a gate and returns the file with their records.
func aWeek(t testing.TB, n int, set *policies.Set, recording record.Recording) string {
	t.Helper()
	r := rand.New(rand.NewPCG(7, uint64(n)))
	snapshot, pods := world(t, r)
	file, err := os.Create(filepath.Join(t.TempDir(), "records.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	out := &counted{Writer: zipped}
	log := slog.New(slog.DiscardHandler)
	writer := record.NewWriter(out, log)
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry(), writer)
	if err != nil {
		t.Fatal(err)
	}
	now := monday
	ledger := history.New()
	gate := &webhook.Gate{
		Cluster: &cluster.Gatherer{Store: snapshot.Store, Leaving: ledger.Leaving}, Policies: func() *policies.Set { return set }, History: ledger,
		Records: writer, Metrics: metrics, Log: log, Now: func() time.Time { return now }, Recording: recording,
		Options: policies.Options{Override: policies.OverrideRule{Groups: []string{"ops"}}},
	}
	for i := range n {
		now = monday.Add(time.Duration(float64(7*24*time.Hour) * float64(i) / float64(n)))
		response := httptest.NewRecorder()
		gate.ServeHTTP(response, httptest.NewRequest(http.MethodPost, hooks.EvictionsPath, bytes.NewReader(review(t, r, i, pods[r.IntN(len(pods))]))))
		for i%1000 == 0 && int64(i)-out.lines.Load() > 4000 {
			time.Sleep(time.Millisecond)
		}
	}
	writer.Close()
	if err := errors.Join(zipped.Close(), file.Close()); err != nil || writer.Lost() > 0 {
		t.Fatalf("%v, %d lost", err, writer.Lost())
	}
	return file.Name()
}

func review(t testing.TB, r *rand.Rand, i int, pod *corev1.Pod) []byte {
	t.Helper()
	user := []authenticationv1.UserInfo{
		{Username: "admin", Groups: []string{"system:masters"}}, {Username: "lou", Groups: []string{"ops"}},
		{Username: "system:serviceaccount:karpenter:karpenter"}, {Username: "system:serviceaccount:kube-system:descheduler"},
	}[r.IntN(4)]
	eviction := policyv1.Eviction{TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}, ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if r.IntN(10) == 0 {
		eviction.Annotations = map[string]string{policies.OverrideAnnotation: []string{"", "INC-1"}[r.IntN(2)]}
	}
	name := pod.Name
	if r.IntN(50) == 0 {
		name = "gone"
	}
	object, err := json.Marshal(eviction)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID(fmt.Sprint("review-", i)), Operation: admissionv1.Create, Namespace: pod.Namespace, Name: name, DryRun: new(r.IntN(20) == 0),
			Kind:     metav1.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, SubResource: "eviction",
			UserInfo: user, Object: runtime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func recordsOf(t testing.TB, name string) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		for r, err := range replay.Lines(t.Context(), file) {
			if !yield(r, err) {
				return
			}
		}
	}
}

func run(t testing.TB, name string, set *policies.Set, o replay.Options) *replay.Report {
	t.Helper()
	report, err := replay.Run(t.Context(), recordsOf(t, name), set, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

var listsOnly = cmpopts.IgnoreUnexported(replay.Report{})

// asked reports whether policies were asked about the pod of a record.
func asked(r *record.Record) bool {
	return r.Pod != nil && r.Basis.Phase == "Running" && !r.Basis.Terminating
}

// decisions is how many there are in the week; -decisions=100000 takes some minutes of two processors.
var decisions = flag.Int("decisions", scale.Of(500, 10_000), "how many decisions are made and replayed")

// TestAWeekOfDecisions replays decisions by the set that made them, and by sets that differ from it in one
// thing, whose effect is counted in the records.
func TestAWeekOfDecisions(t *testing.T) {
	n := *decisions
	file := aWeek(t, n, bound(t, nil), record.Recording{})

	unchanged := run(t, file, bound(t, nil), replay.Options{})
	want := &replay.Report{Revision: bound(t, nil).Revision(), Since: unchanged.Since, Until: unchanged.Until, Records: n, Unchanged: n}
	if diff := cmp.Diff(want, unchanged, listsOnly, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("by the set that decided -want +got:\n%s", diff)
	}
	t.Logf("%d decisions replayed, all unchanged", n)
	if !unchanged.Since.Equal(monday) || unchanged.Until.Before(monday.AddDate(0, 0, 6)) {
		t.Errorf("the week is from %s to %s", unchanged.Since, unchanged.Until)
	}

	t.Run("a policy more", func(t *testing.T) { aPolicyMore(t, file) })
	t.Run("a policy less", func(t *testing.T) { aPolicyLess(t, file) })
	t.Run("a policy that reads more", func(t *testing.T) { aPolicyThatReadsMore(t, file, n) })
}

const newPolicy = "match:\n  evictors: [{kind: karpenter}]\nrego: |\n  package eviction.newer\n\n  deny contains {\"reason\": \"no\", \"detail\": {}} if {\n    input.owner.name == \"w3\"\n    input.request.namespace == \"ns-1\"\n  }"

func aPolicyMore(t *testing.T, file string) {
	want := replay.Group{Name: "karpenter"}
	transitions := map[string]int{}
	for r, err := range recordsOf(t, file) {
		if err != nil {
			t.Fatal(err)
		}
		if !asked(&r) || r.Request.Evictor != "karpenter" || r.Request.Namespace != "ns-1" || r.Workload() != "Deployment/w3" {
			continue
		}
		switch {
		case r.Result.Outcome == policies.Denied && r.Result.Code == 403:
			want.Found++
		case r.Result.Allowed():
			want.Refused++
			transitions[string(r.Result.Outcome)]++
		default:
			want.Otherwise++
			transitions[string(r.Result.Outcome)]++
		}
		if want.Example == "" {
			want.Example = r.DecisionID
		}
	}
	if want.Refused == 0 {
		t.Fatal("no record is of that workload")
	}
	var changes []string
	got := run(t, file, bound(t, map[string]string{"newer": newPolicy}), replay.Options{Each: func(c *replay.Change) error {
		changes = append(changes, c.DecisionID)
		if c.Kind == replay.Answered && (c.After.Outcome != policies.Denied || !strings.HasPrefix(c.After.Message, "no (policy newer)")) {
			t.Errorf("answered %+v", c.After)
		}
		return nil
	}})
	all := want.Refused + want.Otherwise + want.Found
	if got.NotJudged != 0 || got.Answered != want.Refused+want.Otherwise || got.Found != want.Found || len(changes) != all {
		t.Errorf("%d not judged, %d answered otherwise, %d with other findings, %d changes; want %+v", got.NotJudged, got.Answered, got.Found, len(changes), want)
	}
	if diff := cmp.Diff([]replay.Group{want}, got.Evictors); diff != "" {
		t.Errorf("evictors -want +got:\n%s", diff)
	}
	want.Name = "ns-1/Deployment/w3"
	if diff := cmp.Diff([]replay.Group{want}, got.Workloads); diff != "" {
		t.Errorf("workloads -want +got:\n%s", diff)
	}
	wantPolicy := []replay.PolicyChange{{Policy: "newer", NewlyRefuses: all}}
	if diff := cmp.Diff(wantPolicy, got.Policies, cmpopts.IgnoreFields(replay.PolicyChange{}, "Examples")); diff != "" {
		t.Errorf("policies -want +got:\n%s", diff)
	}
	for _, transition := range got.Transitions {
		transitions[string(transition.Before)] -= transition.Decisions
	}
	for outcome, left := range transitions {
		if left != 0 {
			t.Errorf("of those %s before %d are not counted", outcome, left)
		}
	}
}

func aPolicyLess(t *testing.T, file string) {
	const less = "do-not-disrupt"
	refused, warned := 0, 0 // those that were overridden only warned
	for r, err := range recordsOf(t, file) {
		if err != nil {
			t.Fatal(err)
		}
		refuses, warns := false, false
		for _, v := range r.Result.Violations {
			overridden := r.Result.Override != nil && r.Result.Override.Used
			refuses = refuses || v.Policy == less && v.Enforcing() && !overridden
			warns = warns || v.Policy == less && (!v.Enforcing() || overridden)
		}
		if refuses {
			refused++
		}
		if warns {
			warned++
		}
	}
	if refused == 0 || warned == 0 {
		t.Fatalf("%d refused, %d warned", refused, warned)
	}
	got := run(t, file, bound(t, map[string]string{less: ""}), replay.Options{})
	want := []replay.PolicyChange{{Policy: less, NoLongerRefuses: refused, NoLongerWarns: warned}}
	if diff := cmp.Diff(want, got.Policies, cmpopts.IgnoreFields(replay.PolicyChange{}, "Examples")); diff != "" || got.NotJudged > 0 || got.Changed() != refused+warned {
		t.Errorf("%d not judged, %d changed; policies -want +got:\n%s", got.NotJudged, got.Changed(), diff)
	}
}

const readsMore = "match:\n  podSelector: {matchLabels: {app: w4}}\nrego: |\n  package eviction.more\n\n  deny contains \"rack\" if input.node.labels.rack == \"0\"\n\n  deny contains \"image\" if input.pod.spec.containers[0].image == \"x\""

func aPolicyThatReadsMore(t *testing.T, file string, n int) {
	want := []replay.Obstacle{
		{Reason: replay.ReadsBeyond, Policy: "more", Ref: "input.node.labels.rack"},
		{Reason: replay.ReadsBeyond, Policy: "more", Ref: "input.pod.spec.containers"},
	}
	for r, err := range recordsOf(t, file) {
		if err != nil {
			t.Fatal(err)
		}
		if !asked(&r) || r.Workload() != "Deployment/w4" {
			continue
		}
		for i := range want {
			if want[i].Decisions++; want[i].Example == "" {
				want[i].Example = r.DecisionID
			}
		}
	}
	got := run(t, file, bound(t, map[string]string{"more": readsMore}), replay.Options{})
	if diff := cmp.Diff(want, got.Obstacles); diff != "" {
		t.Errorf("obstacles -want +got:\n%s", diff)
	}
	if got.NotJudged != want[0].Decisions || got.NotJudged == 0 || got.Unchanged != n-got.NotJudged {
		t.Errorf("%d not judged, %d unchanged of %d; want %d not judged", got.NotJudged, got.Unchanged, n, want[0].Decisions)
	}
}

// With whole inputs every decision is judged, whatever a policy reads.
func TestWholeInputsAreJudgedByAnyPolicy(t *testing.T) {
	file := aWeek(t, 3000, bound(t, nil), record.Recording{Full: true})
	got := run(t, file, bound(t, map[string]string{"more": readsMore}), replay.Options{})
	if got.NotJudged > 0 || got.Changed() == 0 {
		t.Errorf("%d not judged, %d changed: %+v", got.NotJudged, got.Changed(), got.Obstacles)
	}
	for _, w := range got.Workloads {
		if !strings.HasSuffix(w.Name, "/Deployment/w4") {
			t.Errorf("a change of %s", w.Name)
		}
	}
}

func TestTheReportDoesNotDependOnTheNumberOfWorkers(t *testing.T) {
	file := aWeek(t, 3000, bound(t, nil), record.Recording{})
	set := func() *policies.Set {
		return bound(t, map[string]string{"newer": newPolicy, "more": readsMore, "few": "", "do-not-disrupt": ""})
	}
	var ids [2][]string
	var reports [2]*replay.Report
	for i, workers := range []int{1, 7} {
		reports[i] = run(t, file, set(), replay.Options{Workers: workers, Each: func(c *replay.Change) error {
			ids[i] = append(ids[i], c.DecisionID)
			return nil
		}})
	}
	if diff := cmp.Diff(reports[0], reports[1], listsOnly); diff != "" {
		t.Errorf("-one +seven:\n%s", diff)
	}
	if diff := cmp.Diff(ids[0], ids[1]); diff != "" || len(ids[0]) == 0 {
		t.Errorf("%d changes -one +seven:\n%s", len(ids[0]), diff)
	}
}

func TestARunEnds(t *testing.T) {
	file := aWeek(t, 500, bound(t, nil), record.Recording{})
	broken := errors.New("broken")
	failing := func(yield func(record.Record, error) bool) {
		n := 0
		for r, err := range recordsOf(t, file) {
			if n++; n == 100 {
				yield(r, broken)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
	if _, err := replay.Run(t.Context(), failing, bound(t, nil), replay.Options{}); !errors.Is(err, broken) {
		t.Errorf("of broken records the error is %v", err)
	}
	each := func(*replay.Change) error { return broken }
	if _, err := replay.Run(t.Context(), recordsOf(t, file), policies.None(), replay.Options{Each: each}); !errors.Is(err, broken) {
		t.Errorf("of what takes changes the error is %v", err)
	}
}

// BenchmarkReplay is the replay of records as they stand in a file, all processors at work.
func BenchmarkReplay(b *testing.B) {
	const n = 20_000
	file := aWeek(b, n, bound(b, nil), record.Recording{})
	set := bound(b, map[string]string{"newer": newPolicy})
	for b.Loop() {
		run(b, file, set, replay.Options{})
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
