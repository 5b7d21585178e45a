package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// preferNoEviction is the descheduler's own mark, which by default its plugins may ignore.
	preferNoEviction = "descheduler.alpha.kubernetes.io/prefer-no-eviction"
	// denialPrefix is how the API server introduces a webhook's message.
	denialPrefix = `admission webhook "evictions.evictgate.dev" denied the request: `
	// ignoringPrefix is how the descheduler introduces a 429, and only that.
	ignoringPrefix = "error when evicting pod (ignoring) "
)

// deschedulerRights are what the descheduler needs to look. It may evict in the test's namespace alone,
// and may delete nowhere: what goes, goes by the Eviction API. The %[1]s is the namespace.
const deschedulerRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: descheduler-%[1]s}
rules:
- {apiGroups: [""], resources: [nodes, namespaces, pods, persistentvolumeclaims], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: descheduler-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: descheduler-%[1]s}
subjects: [{kind: ServiceAccount, namespace: kube-system, name: descheduler}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: descheduler, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: descheduler, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: descheduler}
subjects: [{kind: ServiceAccount, namespace: kube-system, name: descheduler}]
`

// deschedulerPolicy asks for the eviction of every running pod of the test's namespace, the oldest
// first, and for an Event on each that stays.
const deschedulerPolicy = `
apiVersion: descheduler/v1alpha2
kind: DeschedulerPolicy
evictionFailureEventNotification: true
profiles:
- name: e2e
  pluginConfig:
  - name: DefaultEvictor
    args: {}
  - name: PodLifeTime
    args: {states: [Running], namespaces: {include: [%s]}}
  plugins:
    deschedule: {enabled: [PodLifeTime]}
`

// descheduler is the real program, set up for one namespace.
type descheduler struct{ binary, dir, kubeconfig, policy, log string }

func deschedulerBinary(t *testing.T) string {
	t.Helper()
	kube.Need(t, "descheduler")
	path, _ := kube.Program("descheduler")
	return path
}

// newDescheduler gives the descheduler a service account and a policy; settings are further lines of
// the policy.
func newDescheduler(t *testing.T, namespace, settings string) *descheduler {
	t.Helper()
	dir := t.TempDir()
	d := &descheduler{
		binary: deschedulerBinary(t), dir: dir,
		kubeconfig: filepath.Join(dir, "kubeconfig"), policy: filepath.Join(dir, "policy.yaml"), log: filepath.Join(dir, "log"),
	}
	if err := shared.Apply(t.Context(), fmt.Sprintf(deschedulerRights, namespace)); err != nil {
		t.Fatal(err)
	}
	write(t, d.policy, fmt.Sprintf(deschedulerPolicy, namespace)+settings)
	writeTokenConfig(t, d.kubeconfig, serviceAccountToken(t, "kube-system", "descheduler"))
	return d
}

// serviceAccountToken makes a token for an account, and the account when no other test has.
func serviceAccountToken(t *testing.T, namespace, name string) string {
	t.Helper()
	accounts := shared.Client.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	request, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

func writeTokenConfig(t *testing.T, path, token string) {
	t.Helper()
	const name = "evictgate-test"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: shared.Config.Host, CertificateAuthorityData: shared.Config.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
}

// start starts the descheduler with an empty log. What runs too long is killed.
func (d *descheduler) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	args = append([]string{"--kubeconfig", d.kubeconfig, "--policy-config-file", d.policy, "--logging-format=json", "--v=1", "--secure-port=0"}, args...)
	command := exec.CommandContext(ctx, d.binary, args...)
	command.Dir, command.Stdout, command.Stderr = d.dir, log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

// once runs one cycle, as a CronJob does, and returns what was logged.
func (d *descheduler) once(t *testing.T) []logLine {
	t.Helper()
	if err := d.start(t).Wait(); err != nil {
		t.Fatalf("descheduler: %v\n%s", err, d.text())
	}
	t.Logf("descheduler:\n%s", d.text())
	return d.lines(t)
}

// logLine is what matters of a line that the descheduler logs.
type logLine struct {
	Msg          string                `json:"msg"`
	Err          string                `json:"err"`
	Pod          struct{ Name string } `json:"pod"`
	TotalEvicted *int                  `json:"totalEvicted"`
}

func (d *descheduler) text() string {
	raw, _ := os.ReadFile(d.log)
	return string(raw)
}

// lines are the complete lines of the log.
func (d *descheduler) lines(t *testing.T) []logLine {
	t.Helper()
	text := d.text()
	var lines []logLine
	for text := range strings.Lines(text[:strings.LastIndexByte(text, '\n')+1]) {
		var line logLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("the descheduler logged %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// sees waits until the log holds what is asked for.
func (d *descheduler) sees(t *testing.T, what string, cond func([]logLine) bool) {
	t.Helper()
	err := kube.Wait(t.Context(), "the descheduler to log "+what, func(context.Context) (bool, error) { return cond(d.lines(t)), nil })
	if err != nil {
		t.Fatalf("%v; it logged:\n%s", err, d.text())
	}
}

// refusals are the errors that were logged for each pod.
func refusals(lines []logLine) map[string][]string {
	found := map[string][]string{}
	for _, line := range lines {
		if line.Msg == "Error evicting pod" {
			found[line.Pod.Name] = append(found[line.Pod.Name], line.Err)
		}
	}
	return found
}

// evicted are the pods that the descheduler takes for evicted.
func evicted(lines []logLine) []string {
	var pods []string
	for _, line := range lines {
		if line.Msg == "Evicted pod" {
			pods = append(pods, line.Pod.Name)
		}
	}
	return pods
}

// asked are the records of a pod without those of the test's own dry runs, once there are n.
func asked(t *testing.T, g *gate.Gate, namespace, pod string, n int) []record.Record {
	t.Helper()
	var records []record.Record
	err := kube.Wait(t.Context(), fmt.Sprintf("%d records of %s", n, pod), func(ctx context.Context) (bool, error) {
		all, err := g.RecordsOf(ctx, namespace, pod)
		records = slices.DeleteFunc(all, func(r record.Record) bool { return r.Request.DryRun })
		return len(records) >= n, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// known waits until the webhook's cache has a pod that nothing refuses.
func known(t *testing.T, g *gate.Gate, namespace, pod string) {
	t.Helper()
	err := kube.Wait(t.Context(), "the webhook to know "+pod, func(ctx context.Context) (bool, error) {
		if err := evict(ctx, namespace, pod, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			return false, err
		}
		records, err := g.RecordsOf(ctx, namespace, pod)
		return slices.ContainsFunc(records, func(r record.Record) bool { return r.Pod != nil }), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deployLater creates a Deployment of one pod that is younger than all pods so far: creation has whole
// seconds.
func deployLater(t *testing.T, namespace, name string) corev1.Pod {
	t.Helper()
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	return deploy(t, namespace, name, 1, "", nil)[0]
}

// failedEvent waits for the descheduler's own Event on a pod that stayed.
func failedEvent(t *testing.T, namespace, pod, sentence string) {
	t.Helper()
	err := kube.Wait(t.Context(), "the descheduler's Event on "+pod, func(ctx context.Context) (bool, error) {
		list, err := shared.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.Reason == "EvictionFailed" && e.Regarding.Name == pod && strings.Contains(e.Note, sentence) {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// refusal is how the descheduler hears about the pods of one Deployment.
type refusal struct {
	pods []corev1.Pod
	// prefix is the descheduler's own, and sentence a part of our message.
	prefix, sentence string
	outcome          policies.Outcome
	code             int32
}

// refusedPods makes pods for each way in which an eviction is refused, and waits until the webhook
// refuses them.
func refusedPods(t *testing.T, namespace string) []refusal {
	t.Helper()
	refusals := []refusal{
		{deploy(t, namespace, "cart", 1, "", map[string]string{preferNoEviction: "true"}), ignoringPrefix,
			"Deployment " + namespace + "/cart is annotated " + preferNoEviction + "=true on its pods; remove the annotation to let them be evicted (policy hold)", policies.Delayed, 429},
		{deploy(t, namespace, "web", 1, "", nil), "",
			"Deployment web is frozen by the owners; ask team-web (policy no_web)", policies.Denied, 403},
		{deploy(t, namespace, "api", 3, "", nil), ignoringPrefix,
			"Cannot evict pod as it would violate the pod's disruption budget. Budget " + namespace + "/api needs 2 healthy of 3 expected pods and has 1; waiting for ", policies.Delayed, 429},
		{deploy(t, namespace, "ledger", 1, "", nil), "",
			namespace + "/ledger-a (app=ledger) and " + namespace + "/ledger-b (app=ledger)", policies.Denied, 500},
	}
	createBudget(t, kube.Budget(namespace, "api", intstr.FromInt32(2)))
	for _, pod := range refusals[2].pods[1:] {
		if err := shared.SetPodReady(t.Context(), namespace, pod.Name, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ledger-a", "ledger-b"} {
		budget := kube.Budget(namespace, "ledger", intstr.FromInt32(1))
		budget.Name = name
		createBudget(t, budget)
	}
	for _, r := range refusals {
		for _, pod := range r.pods {
			waitForCache(t, namespace, pod.Name, r.sentence)
		}
	}
	return refusals
}

func TestTheDeschedulerIsToldPodByPodAndGoesOn(t *testing.T) {
	deschedulerBinary(t)
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "no_web.rego", denyWeb, "hold.yaml", `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: hold}
spec: {library: do_not_disrupt, enforcement: Enforce}
`)}})
	refused := refusedPods(t, namespace)
	shop := deployLater(t, namespace, "shop")
	known(t, g, namespace, shop.Name)
	// The pod that may go is asked for last, and one eviction is all that a run may do: a refusal must
	// neither end the run nor count.
	d := newDescheduler(t, namespace, "maxNoOfPodsToEvictTotal: 1\n")
	runs := [][]logLine{d.once(t), d.once(t)}

	if diff := cmp.Diff([]string{shop.Name}, evicted(runs[0])); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	checkAdmitted(t, g, namespace, shop)
	for _, r := range refused {
		for _, pod := range r.pods {
			checkRefused(t, g, pod, r, runs)
		}
	}
}

// checkAdmitted holds the first record of an evicted pod to what the descheduler asked.
func checkAdmitted(t *testing.T, g *gate.Gate, namespace string, pod corev1.Pod) {
	t.Helper()
	r := asked(t, g, namespace, pod.Name, 1)[0]
	want := record.Request{
		Namespace: namespace, Name: pod.Name, Evictor: "descheduler",
		User: policies.User{
			Username: "system:serviceaccount:kube-system:descheduler",
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
		},
		Annotations: map[string]string{"reason": "triggered by e2e/PodLifeTime: ", "requested-by": "sigs.k8s.io/descheduler"},
	}
	if diff := cmp.Diff(want, r.Request); diff != "" {
		t.Errorf("the record's request (-want +got):\n%s", diff)
	}
	if r.Result.Outcome != policies.Admitted || r.Pod == nil || r.Pod.UID != string(pod.UID) {
		t.Errorf("unexpected record %+v of %+v", r.Result, r.Pod)
	}
	if !gone(t, namespace, pod.Name) {
		t.Errorf("%s was admitted and is still there", pod.Name)
	}
}

// checkRefused holds the log of each run to the record of it: the descheduler asks once a run, and
// logs our message whole.
func checkRefused(t *testing.T, g *gate.Gate, pod corev1.Pod, want refusal, runs [][]logLine) {
	t.Helper()
	records := asked(t, g, pod.Namespace, pod.Name, len(runs))
	if len(records) != len(runs) {
		t.Fatalf("%s: %d requests in %d runs", pod.Name, len(records), len(runs))
	}
	for i, r := range records {
		if r.Result.Outcome != want.outcome || r.Result.Code != want.code || r.Request.Evictor != "descheduler" || !strings.Contains(r.Result.Message, want.sentence) {
			t.Errorf("%s: the record says %s %d to %s: %s", pod.Name, r.Result.Outcome, r.Result.Code, r.Request.Evictor, r.Result.Message)
		}
		text := denialPrefix + r.Result.Message
		if want.prefix != "" {
			text = fmt.Sprintf("%s%q: %s", want.prefix, pod.Name, text)
		}
		if diff := cmp.Diff([]string{text}, refusals(runs[i])[pod.Name]); diff != "" {
			t.Errorf("%s: logged in run %d (-want +got):\n%s", pod.Name, i+1, diff)
		}
		for _, warning := range r.Result.Warnings {
			if !slices.ContainsFunc(runs[i], func(l logLine) bool { return l.Msg == "Warning: "+warning }) {
				t.Errorf("%s: not logged in run %d: %s", pod.Name, i+1, warning)
			}
		}
	}
	if gone(t, pod.Namespace, pod.Name) {
		t.Errorf("%s was refused and is gone", pod.Name)
	}
}

func TestTheDeschedulerComesBackUntilADelayIsLifted(t *testing.T) {
	deschedulerBinary(t)
	g, namespace := start(t, gate.Options{})
	pod := deploy(t, namespace, "cart", 1, "", map[string]string{preferNoEviction: "true"})[0].Name
	sentence := "Deployment " + namespace + "/cart is annotated " + preferNoEviction + "=true"
	waitForCache(t, namespace, pod, sentence)
	d := newDescheduler(t, namespace, "")
	command := d.start(t, "--descheduling-interval=1s")
	d.sees(t, "two refusals of "+pod, func(lines []logLine) bool { return len(refusals(lines)[pod]) >= 2 })
	failedEvent(t, namespace, pod, sentence)

	_, err := shared.Client.CoreV1().Pods(namespace).Patch(t.Context(), pod, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"`+preferNoEviction+`":null}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.sees(t, "the eviction of "+pod, func(lines []logLine) bool { return slices.Contains(evicted(lines), pod) })
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("descheduler: %v\n%s", err, d.text())
	}

	refused := len(refusals(d.lines(t))[pod])
	records := asked(t, g, namespace, pod, refused+1)
	var outcomes []policies.Outcome
	for _, r := range records {
		outcomes = append(outcomes, r.Result.Outcome)
	}
	want := append(slices.Repeat([]policies.Outcome{policies.Delayed}, refused), policies.Admitted)
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestTheDeschedulerLeavesAPodWhenTheWebhookIsAway(t *testing.T) {
	deschedulerBinary(t)
	g, namespace := start(t, gate.Options{})
	pod := deploy(t, namespace, "web", 1, "", nil)[0].Name
	d := newDescheduler(t, namespace, "")
	g.Kill()
	for range 2 {
		errs := refusals(d.once(t))[pod]
		if len(errs) != 1 || !strings.HasPrefix(errs[0], `Internal error occurred: failed calling webhook "evictions.evictgate.dev": `) {
			t.Errorf("logged is %q", errs)
		}
	}
	if gone(t, namespace, pod) {
		t.Errorf("%s is gone", pod)
	}
}
