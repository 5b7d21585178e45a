package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
)

// auditPolicy is that of evictgate review import --help.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  resources: [{group: "", resources: [pods/eviction]}]
- level: Metadata
  verbs: [delete, deletecollection]
  resources: [{group: "", resources: [pods]}]
- level: None
`

const byName = `package eviction.by_name

deny contains {"reason": "never", "detail": {}} if startswith(input.request.name, "deny-")

delay contains {"reason": "later", "detail": {}} if startswith(input.request.name, "delay-")
`

// audited is an API server of its own, whose audit log is what the test is about: with pods that a test makes
// ready itself, and budgets whose numbers it writes.
type audited struct {
	*kube.ControlPlane
	t *testing.T
	// run is the namespace of the evictions, and probe one in which is found out what the API server knows.
	run, probe string
	clients    []*kubernetes.Clientset
	received   *received
}

// received keeps what the API server posts, and refuses the first batches.
type received struct {
	mu      sync.Mutex
	refused int
	answers map[string]record.Answer
}

func (r *received) add(_ context.Context, answers []record.Answer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused < 2 {
		r.refused++
		return errors.New("the store is away")
	}
	for _, a := range answers {
		r.answers[a.ID] = a
	}
	return nil
}

func (r *received) all() map[string]record.Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]record.Answer, len(r.answers))
	for id, a := range r.answers {
		all[id] = a
	}
	return all
}

func startAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{t: t, received: &received{answers: map[string]record.Answer{}}}
	dir := t.TempDir()
	policy, webhook := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "webhook.yaml")
	write(t, policy, auditPolicy)
	write(t, webhook, a.auditWebhook())
	var err error
	a.ControlPlane, err = kube.Start(t.Context(), kube.Options{APIServerArgs: []string{
		"--audit-policy-file=" + policy, "--audit-webhook-config-file=" + webhook, "--audit-webhook-mode=batch",
		"--audit-webhook-batch-max-wait=1s", "--audit-webhook-initial-backoff=500ms",
	}})
	a.check(err)
	t.Cleanup(func() { _ = a.Stop() })
	for i := range 6 {
		config, err := a.UserConfig(fmt.Sprintf("client-%d", i), "system:masters")
		a.check(err)
		client, err := kubernetes.NewForConfig(config)
		a.check(err)
		a.clients = append(a.clients, client)
	}
	a.run, err = a.Namespace(t.Context(), "run")
	a.check(err)
	a.probe, err = a.Namespace(t.Context(), "probe")
	a.check(err)
	return a
}

// auditWebhook receives what the API server posts, and returns the kubeconfig by which it finds it.
func (a *audited) auditWebhook() string {
	const token = "let-the-api-server-in"
	mux := http.NewServeMux()
	mux.Handle(apilog.Path, apilog.NewHandler(apilog.HandlerOptions{AddAnswers: a.received.add, Authenticate: apilog.BearerToken(token)}))
	server := httptest.NewTLSServer(mux)
	a.t.Cleanup(server.Close)
	ca := filepath.Join(a.t.TempDir(), "ca.crt")
	write(a.t, ca, string(certificate(server)))
	return strings.NewReplacer("https://evictgate.example:8443", server.URL, "/etc/kubernetes/evictgate-ca.crt", ca,
		"the token that review serve takes", token).Replace(apilog.Kubeconfig)
}

func certificate(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func (a *audited) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// pods creates ready pods with that prefix.
func (a *audited) pods(namespace, prefix string, n int) {
	a.t.Helper()
	a.each(n, func(client *kubernetes.Clientset, i int) error {
		pods := client.CoreV1().Pods(namespace)
		pod, err := pods.Create(a.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", prefix, i), Labels: map[string]string{"app": prefix}},
			Spec:       corev1.PodSpec{NodeName: "nowhere", Containers: []corev1.Container{{Name: "main", Image: "example.com/main"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		_, err = pods.UpdateStatus(a.t.Context(), pod, metav1.UpdateOptions{})
		return err
	})
}

// budget creates one over the pods with that prefix.
func (a *audited) budget(prefix, name string, allowed int32) {
	a.t.Helper()
	budgets := a.Client.PolicyV1().PodDisruptionBudgets(a.run)
	pdb := kube.Budget(a.run, prefix, intstr.FromInt32(1))
	pdb.Name = name
	pdb, err := budgets.Create(a.t.Context(), pdb, metav1.CreateOptions{})
	a.check(err)
	pdb.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: pdb.Generation, DisruptionsAllowed: allowed, CurrentHealthy: 1 + allowed, DesiredHealthy: 1, ExpectedPods: 1 + allowed,
	}
	_, err = budgets.UpdateStatus(a.t.Context(), pdb, metav1.UpdateOptions{})
	a.check(err)
}

// each calls f for 0 to n-1, with all clients beside each other.
func (a *audited) each(n int, f func(client *kubernetes.Clientset, i int) error) {
	a.t.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, len(a.clients))
	for c, client := range a.clients {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[c] == nil; i = int(next.Add(1)) - 1 {
				errs[c] = f(client, i)
			}
		})
	}
	group.Wait()
	a.check(errors.Join(errs...))
}

// answered is what a client, or the audit log, says about one request.
type answered struct {
	Verb   record.Verb
	Code   int32
	By     string
	DryRun bool
}

// tally counts requests by their answer.
type tally struct {
	mu     sync.Mutex
	counts map[answered]int
}

func (c *tally) add(k answered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[answered]int{}
	}
	c.counts[k]++
}

func (c *tally) sum(of func(answered) bool) int {
	n := 0
	for k, count := range c.counts {
		if of(k) {
			n += count
		}
	}
	return n
}

// evicted counts an eviction as its client saw it. The error is what is not an answer at all.
func (c *tally) evicted(dryRun bool, err error) error {
	k := answered{Verb: record.VerbEvict, Code: http.StatusCreated, DryRun: dryRun}
	if err != nil {
		var s apierrors.APIStatus
		if !errors.As(err, &s) || s.Status().Code == 0 {
			return err
		}
		k.Code, k.By = s.Status().Code, refuser(s.Status().Message)
	}
	c.add(k)
	return nil
}

// refuser says who refused, from what the client is told.
func refuser(message string) string {
	switch {
	case strings.HasPrefix(message, `admission webhook "evictions.evictgate.dev" denied`):
		return "evictgate"
	case strings.HasPrefix(message, `admission webhook "other.example.com" denied`):
		return "webhook other.example.com"
	case strings.HasPrefix(message, "Cannot evict pod as it would violate the pod's disruption budget."), strings.HasPrefix(message, "This pod has more than one PodDisruptionBudget"):
		return "budget"
	}
	return "api-server"
}

// kind is a kind of request in the mix: n of them, sent to pods of one prefix in turn.
type kind struct {
	prefix    string
	pods, n   int
	dry       bool
	send      func(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error
	wantCodes []int32
}

func eviction(namespace, pod string) *policyv1.Eviction {
	return &policyv1.Eviction{TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
}

func sendV1(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error {
	return client.PolicyV1().Evictions(namespace).Evict(ctx, eviction(namespace, pod))
}

func sendDryBody(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error {
	e := eviction(namespace, pod)
	e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	return client.PolicyV1().Evictions(namespace).Evict(ctx, e)
}

func sendDryQuery(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error {
	return client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource("eviction").
		Param("dryRun", "All").Body(eviction(namespace, pod)).Do(ctx).Error()
}

func sendMismatch(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error {
	return client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource("eviction").
		Body(eviction(namespace, "another")).Do(ctx).Error()
}

func sendV1beta1(ctx context.Context, client *kubernetes.Clientset, namespace, pod string) error {
	e := &policyv1beta1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
	return client.PolicyV1beta1().Evictions(namespace).Evict(ctx, e)
}

// mix is what the clients send, all kinds beside each other.
var mix = []kind{
	{prefix: "go", pods: 400, n: 400, send: sendV1, wantCodes: []int32{201}},
	{prefix: "beta", pods: 100, n: 100, send: sendV1beta1, wantCodes: []int32{201}},
	{prefix: "deny", pods: 20, n: 200, send: sendV1, wantCodes: []int32{403}},
	{prefix: "delay", pods: 20, n: 200, send: sendV1, wantCodes: []int32{429}},
	{prefix: "held", pods: 10, n: 200, send: sendV1, wantCodes: []int32{429}},
	{prefix: "two", pods: 5, n: 100, send: sendV1, wantCodes: []int32{500}},
	{prefix: "race", pods: 60, n: 60, send: sendV1, wantCodes: []int32{201, 429}},
	{prefix: "dry", pods: 10, n: 200, dry: true, send: sendDryQuery, wantCodes: []int32{201}},
	{prefix: "dry", pods: 10, n: 200, dry: true, send: sendDryBody, wantCodes: []int32{201}},
	{prefix: "unknown", n: 200, send: sendV1, wantCodes: []int32{404}},
	{prefix: "mismatch", n: 100, send: sendMismatch, wantCodes: []int32{400}},
	{prefix: "other", pods: 10, n: 200, send: sendV1, wantCodes: []int32{403}},
}

const (
	deletions  = 100
	raceBudget = 10
)

// otherWebhook denies evictions of the pods other-….
func (a *audited) otherWebhook() {
	a.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: !strings.HasPrefix(review.Request.Name, "other-")}
		if !review.Response.Allowed {
			review.Response.Result = &metav1.Status{Code: http.StatusForbidden, Message: "<b>not\u202e this one</b>\x1b[31m"}
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	a.t.Cleanup(server.Close)
	o := gate.Options{Name: "other", CABundle: certificate(server), Namespaces: []string{a.run}}
	configuration, err := o.Configuration(server.Listener.Addr().String())
	a.check(err)
	hook := &configuration.Webhooks[0]
	hook.Name, hook.ClientConfig.URL = "other.example.com", &server.URL
	_, err = a.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(a.t.Context(), configuration, metav1.CreateOptions{})
	a.check(err)
	a.patient("other")
}

// patient lets the API server wait for a webhook: on a slow machine no call may fail open by its timeout.
func (a *audited) patient(configuration string) {
	a.t.Helper()
	patch := []byte(`[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 30}]`)
	_, err := a.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(a.t.Context(), configuration, types.JSONPatchType, patch, metav1.PatchOptions{})
	a.check(err)
}

// settle waits until the gate and the other webhook know what they decide by; its evictions count.
func (a *audited) settle(clients *tally) {
	a.t.Helper()
	for prefix, by := range map[string]string{"deny": "evictgate", "held": "evictgate", "two": "evictgate", "other": "webhook other.example.com"} {
		a.check(kube.Wait(a.t.Context(), "the refusal of "+prefix, func(ctx context.Context) (bool, error) {
			err := sendDryBody(ctx, a.Client, a.run, prefix+"-0")
			if lost := clients.evicted(true, err); lost != nil || err == nil {
				return false, lost
			}
			return refuser(err.Error()) == by, err
		}))
	}
}

// send sends the mix and the deletions, and counts.
func (a *audited) send(clients *tally) {
	a.t.Helper()
	var group sync.WaitGroup
	for _, k := range mix {
		group.Go(func() {
			a.each(k.n, func(client *kubernetes.Clientset, i int) error {
				err := k.send(a.t.Context(), client, a.run, fmt.Sprintf("%s-%d", k.prefix, i%max(1, k.pods)))
				code := int32(http.StatusCreated)
				if s := apierrors.APIStatus(nil); errors.As(err, &s) {
					code = s.Status().Code
				}
				if !strings.Contains(fmt.Sprint(k.wantCodes), fmt.Sprint(code)) {
					a.t.Errorf("%s is answered %v, want code %v", k.prefix, err, k.wantCodes)
				}
				return clients.evicted(k.dry, err)
			})
		})
	}
	group.Go(func() {
		a.each(deletions, func(client *kubernetes.Clientset, i int) error {
			clients.add(answered{Verb: record.VerbDelete, Code: http.StatusOK})
			return client.CoreV1().Pods(a.run).Delete(a.t.Context(), fmt.Sprintf("gone-%d", i), metav1.DeleteOptions{})
		})
	})
	group.Wait()
}

// log is the audit log, once it has so many answers in the namespace.
func (a *audited) log(answers int) []byte {
	a.t.Helper()
	var log []byte
	a.check(kube.Wait(a.t.Context(), fmt.Sprintf("the audit log to have %d answers", answers), func(context.Context) (bool, error) {
		var err error
		if log, err = os.ReadFile(filepath.Join(a.Dir, "audit.log")); err != nil {
			return false, err
		}
		n := len(a.answers(log))
		if n != answers {
			err = fmt.Errorf("it has %d", n)
		}
		return n == answers, err
	}))
	return log
}

// answers are those of the namespace run in an audit log, by id.
func (a *audited) answers(log []byte) map[string]record.Answer {
	a.t.Helper()
	r, err := apilog.NewReader(bytes.NewReader(log), apilog.NewParser(apilog.Options{Namespaces: []string{a.run}}))
	a.check(err)
	found := map[string]record.Answer{}
	for {
		e, err := r.Next()
		if err != nil {
			return found
		}
		if e.Err == nil { // a last line may be half written
			found[e.Answer.ID] = e.Answer
		}
	}
}

func tallied(answers map[string]record.Answer) map[answered]int {
	var c tally
	for _, a := range answers {
		k := answered{Verb: a.Verb, Code: a.Code, By: a.RefusedBy, DryRun: a.DryRun}
		if a.Verb == record.VerbEvict && !a.Succeeded() && a.RefusedBy == "" {
			k.By = "evictgate"
		}
		c.add(k)
	}
	return c.counts
}

// imported is what review import prints as JSON, as far as the test asks.
type imported struct {
	Read struct {
		Answers, Decisions, Malformed int
	}
	Decisions, Answers struct{ New, Known int }
	Completeness       struct {
		Decisions        int
		Answers          int
		Matched          int
		MissingAnswers   int `json:"missing_answers"`
		MissingDecisions int `json:"missing_decisions"`
		Passages         map[record.Passage]int
		NotSeen          []record.Answer `json:"not_seen"`
		WithoutDecision  []record.Answer `json:"without_decision"`
		WithoutAnswer    []struct {
			ID string `json:"decision_id"`
		} `json:"without_answer"`
	}
	NotCompared struct{ Decisions, Answers int } `json:"not_compared"`
}

// reviewImport runs the program on an audit log and records, and expects its exit code.
func (a *audited) reviewImport(store string, log []byte, records []record.Record, wantExit int) (got imported, table string) {
	a.t.Helper()
	dir := a.t.TempDir()
	write(a.t, filepath.Join(dir, "audit.log"), string(log))
	var lines bytes.Buffer
	for _, r := range records {
		a.check(json.NewEncoder(&lines).Encode(r))
	}
	write(a.t, filepath.Join(dir, "records.jsonl"), lines.String())
	run := func(args ...string) []byte {
		var stderr bytes.Buffer
		cmd := exec.Command(shared.binary, append([]string{"review", "import", "--store", "sqlite:" + store, "--namespace", a.run}, args...)...)
		cmd.Dir, cmd.Stderr = dir, &stderr
		out, err := cmd.Output()
		exit := 0
		if err != nil {
			exit = cmd.ProcessState.ExitCode()
		}
		if exit != wantExit {
			a.t.Errorf("review import ended with %d, want %d\n%s%s", exit, wantExit, out, &stderr)
		}
		return out
	}
	a.check(json.Unmarshal(run("-o", "json", "audit.log", "records.jsonl"), &got))
	return got, string(run("--report"))
}

// recorded are the records of the namespace run, once there are so many.
func (a *audited) recorded(g *gate.Gate, n int) []record.Record {
	a.t.Helper()
	var found []record.Record
	a.check(kube.Wait(a.t.Context(), fmt.Sprintf("%d records", n), func(context.Context) (bool, error) {
		all, err := g.Records()
		found = found[:0]
		for _, r := range all {
			if r.Request.Namespace == a.run {
				found = append(found, r)
			}
		}
		if err == nil && len(found) != n {
			err = fmt.Errorf("there are %d", len(found))
		}
		return err == nil, err
	}))
	return found
}

func TestTheAuditLogProvesWhichEvictionsPassedUs(t *testing.T) {
	kube.Need(t)
	t.Parallel()
	a := startAudited(t)
	created := map[string]bool{}
	for _, k := range mix {
		if !created[k.prefix] {
			a.pods(a.run, k.prefix, k.pods)
		}
		created[k.prefix] = true
	}
	a.pods(a.run, "gone", deletions)
	a.pods(a.run, "late", 2)
	a.pods(a.probe, "probe", 1)
	a.budget("held", "zero", 0)
	a.budget("two", "first", 1)
	a.budget("two", "second", 1)
	a.budget("race", "race", raceBudget)
	g, err := gate.Start(t.Context(), gate.Options{
		Plane: a.ControlPlane, Binary: shared.binary, Namespaces: []string{a.run, a.probe}, FailurePolicy: admissionregistrationv1.Ignore,
		Args: []string{"--policies", policyDir(t, "by_name.rego", byName)},
	})
	a.check(err)
	t.Cleanup(func() { _ = g.Stop() }) // the test takes the configuration away itself
	a.patient("evictgate")
	a.otherWebhook()

	var clients tally
	a.settle(&clients)
	began := time.Now()
	a.send(&clients)
	evictions := clients.sum(func(k answered) bool { return k.Verb == record.VerbEvict })
	asked := evictions - clients.sum(func(k answered) bool { return k.Code == http.StatusBadRequest })
	t.Logf("%d evictions and %d deletions by %d clients in %s", evictions, deletions, len(a.clients), time.Since(began).Round(time.Second))
	log, records := a.log(evictions+deletions), a.recorded(g, asked)

	t.Run("completeness over a run of at least 2,000 mixed evictions is exact", func(t *testing.T) {
		if asked < 2000 {
			t.Fatalf("only %d evictions came as far as webhooks", asked)
		}
		if diff := cmp.Diff(clients.counts, tallied(a.answers(log))); diff != "" {
			t.Errorf("what the clients counted and what the audit log says, -clients +log:\n%s", diff)
		}
		store := filepath.Join(t.TempDir(), "evictgate.db")
		got, table := a.reviewImport(store, log, records, 0)
		want := imported{}
		want.Read.Answers, want.Read.Decisions = evictions+deletions, asked
		want.Decisions.New, want.Answers.New = asked, evictions+deletions
		want.Completeness.Decisions, want.Completeness.Answers, want.Completeness.Matched = asked, asked, asked
		want.Completeness.Passages = map[record.Passage]int{record.Decided: asked, record.NotCalled: evictions - asked}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		contains(t, table, "Complete ", fmt.Sprintf("each of %d decisions has its answer, and each of %d answers its decision.", asked, asked))

		again, _ := a.reviewImport(store, log, records, 0)
		want.Decisions.New, want.Answers.New, want.Decisions.Known, want.Answers.Known = 0, 0, asked, evictions+deletions
		if diff := cmp.Diff(want, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("imported twice, -want +got:\n%s", diff)
		}
	})

	t.Run("what each client was told is what the gate decided", func(t *testing.T) {
		outcomes := map[string]int{}
		for _, r := range records {
			outcomes[string(r.Result.Outcome)]++
		}
		refused := func(codes ...int32) int {
			return clients.sum(func(k answered) bool {
				return k.By == "evictgate" && strings.Contains(fmt.Sprint(codes), fmt.Sprint(k.Code))
			})
		}
		want := map[string]int{"denied": refused(403, 500), "delayed": refused(429)}
		want["admitted"] = asked - want["denied"] - want["delayed"]
		if diff := cmp.Diff(want, outcomes); diff != "" {
			t.Errorf("-clients +records:\n%s", diff)
		}
		if n := clients.counts[answered{Verb: record.VerbEvict, Code: 201}]; n != 400+100+raceBudget {
			t.Errorf("%d pods were evicted", n)
		}
	})

	t.Run("the API server's audit webhook tells the same, also after the store was away", func(t *testing.T) {
		want := a.answers(log)
		var got map[string]record.Answer
		err := kube.Wait(t.Context(), "the batches", func(context.Context) (bool, error) {
			got = a.received.all()
			for id, answer := range got {
				if answer.Namespace != a.run {
					delete(got, id)
				}
			}
			return len(got) >= len(want), fmt.Errorf("%d of %d", len(got), len(want))
		})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v, -file +webhook:\n%.4000s", err, diff)
		}
		if a.received.refused < 2 {
			t.Error("no batch was refused")
		}
	})

	t.Run("one record and one audit event that are lost are found", func(t *testing.T) {
		lines := bytes.SplitAfter(log, []byte("\n"))
		lost, unanswered := records[len(records)/3].DecisionID, records[len(records)/2].DecisionID
		var kept [][]byte
		for _, line := range lines {
			if !bytes.Contains(line, []byte(unanswered)) {
				kept = append(kept, line)
			}
		}
		fewer := append(append([]record.Record{}, records[:len(records)/3]...), records[len(records)/3+1:]...)
		got, table := a.reviewImport(filepath.Join(t.TempDir(), "evictgate.db"), bytes.Join(kept, nil), fewer, 1)
		c := got.Completeness
		if c.MissingAnswers != 1 || c.MissingDecisions != 1 || len(c.WithoutAnswer) != 1 || len(c.WithoutDecision) != 1 ||
			c.WithoutAnswer[0].ID != unanswered || c.WithoutDecision[0].ReviewUID != lost || c.Matched != asked-2 {
			t.Errorf("%+v", c)
		}
		contains(t, table, "NOT complete", lost, unanswered)
	})

	t.Run("evictions while the webhook was down, and while none was registered, are found as not seen", func(t *testing.T) {
		g.Kill()
		a.check(sendV1(t.Context(), a.clients[0], a.run, "late-0"))
		a.check(a.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "evictgate", metav1.DeleteOptions{}))
		a.check(kube.Wait(t.Context(), "the API server to call no webhook", func(ctx context.Context) (bool, error) {
			if err := sendDryQuery(ctx, a.Client, a.probe, "probe-0"); err != nil {
				return false, err
			}
			return a.lastProbe() == record.Unseen, nil
		}))
		a.check(sendV1(t.Context(), a.clients[1], a.run, "late-1"))
		got, table := a.reviewImport(filepath.Join(t.TempDir(), "evictgate.db"), a.log(evictions+deletions+2), records, 1)
		type seen struct {
			Pod, User string
			Passage   record.Passage
			Code      int32
		}
		var found []seen
		for _, s := range got.Completeness.NotSeen {
			found = append(found, seen{s.Pod, s.User, s.Passage, s.Code})
		}
		want := []seen{{"late-1", "client-1", record.Unseen, 201}, {"late-0", "client-0", record.FailedOpen, 201}}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		wantPassages := map[record.Passage]int{record.Decided: asked, record.NotCalled: evictions - asked, record.FailedOpen: 1, record.Unseen: 1}
		if diff := cmp.Diff(wantPassages, got.Completeness.Passages); diff != "" || got.Completeness.Matched != asked || got.Completeness.MissingAnswers+got.Completeness.MissingDecisions != 0 {
			t.Errorf("%+v, passages -want +got:\n%s", got.Completeness, diff)
		}
		contains(t, table, "Evictions that evictgate did not decide:", "late-0", "late-1", "failed open", "unseen", "client-0", "client-1")
	})
}

// lastProbe is the passage of the newest eviction in the namespace probe.
func (a *audited) lastProbe() (last record.Passage) {
	a.t.Helper()
	log, err := os.ReadFile(filepath.Join(a.Dir, "audit.log"))
	a.check(err)
	p := apilog.NewParser(apilog.Options{Namespaces: []string{a.probe}})
	for line := range bytes.Lines(log) {
		if answer, kind, err := p.Parse(line); err == nil && kind == apilog.Answered {
			last = answer.Passage
		}
	}
	return last
}
