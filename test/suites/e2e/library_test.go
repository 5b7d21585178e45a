package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
)

var update = flag.Bool("update", false, "rewrite testdata/library.txt")

// The users of the trials beside the administrator. Neither is in system:masters.
const (
	jane = "jane"
	ops  = "system:serviceaccount:ops:descheduler"
)

// evictorRights let them evict everywhere, and nothing else.
const evictorRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: library-evictors}
rules:
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: library-evictors}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: library-evictors}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}
- {kind: ServiceAccount, namespace: ops, name: descheduler}
`

// trial is one policy of the library, enforced in a namespace of its own: what there is, an eviction that
// it refuses, and what lets the same eviction pass. In all texts $NS stands for the namespace.
type trial struct {
	// parameters and excludes are those of the EvictionPolicy, as YAML in one line.
	parameters, excludes string
	// nodes is how many nodes there are for the pods, each in a zone of its own; 1 by default.
	nodes int
	// pods is how many pods there must be, ready and with the label app=web; 1 by default. $PODS stands for it.
	pods int
	// objects is what else there is, in YAML.
	objects string
	// prepare brings about what is not an object of somebody's, and chooses the pod when it is not the first.
	prepare func(*scene)
	// by is who evicts, as kubectl --as takes it; the administrator by default.
	by string
	// drain has kubectl drain evict the pod, instead of kubectl create --raw.
	drain bool
	// says is a part of the message that tells that the gate knows all that was prepared.
	says    string
	outcome policies.Outcome
	// cure changes something, for example who evicts.
	cure func(*scene)
}

// web is a workload named web; its pods have further lines of metadata and spec.
func web(kind, metadata, spec string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %s
metadata: {name: web, namespace: $NS}
spec:
  replicas: $PODS
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      %s
    spec:
      nodeSelector: {pool: $NS}
      tolerations: [{key: pool, operator: Exists}]
      containers: [{name: main, image: registry.example/web}]
      %s
`, kind, metadata, spec)
}

// alone is a pod that nobody owns, with further labels, on the node of a zone.
func alone(name, zone, labels string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: $NS, labels: {app: web%s}}
spec:
  nodeSelector: {pool: $NS, topology.kubernetes.io/zone: %s}
  tolerations: [{key: pool, operator: Exists}]
  containers: [{name: main, image: registry.example/web}]
`, name, labels, zone)
}

// localData is a claim whose volume is a disk of the first node.
const localData = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: $NS-data}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  claimRef: {namespace: $NS, name: data}
  local: {path: /mnt/data}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$NS-a]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: $NS}
spec:
  storageClassName: ""
  volumeName: $NS-data
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 10Gi}}
---
`

// lostNode is a node of which nobody hears. Somebody else holds its lease, so kwok leaves it alone; no pod goes
// there.
const lostNode = `
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: $NS-lost, namespace: kube-node-lease}
spec: {holderIdentity: nobody, leaseDurationSeconds: 3600, renewTime: "2100-01-01T00:00:00.000000Z"}
---
apiVersion: v1
kind: Node
metadata: {name: $NS-lost}
spec: {unschedulable: true}
---
`

// trials has one for each policy of the library, by its id.
var trials = map[string]trial{
	"bare_pod": {
		drain: true, outcome: policies.Denied,
		objects: alone("shell", "a", ""),
		cure:    func(s *scene) { s.kubectl("annotate", "pod", "shell", "evictgate.dev/allow-eviction=true") },
	},
	"cooldown": {
		pods: 2, parameters: "{period: 20s}", outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		prepare: (*scene).evictFirst,
		cure:    (*scene).letTimePass,
	},
	"cordoned_nodes_only": {
		by: ops, outcome: policies.Denied,
		objects: web("Deployment", "", ""),
		cure:    func(s *scene) { s.kubectl("cordon", s.pod.Spec.NodeName) },
	},
	"do_not_disrupt": {
		drain: true, outcome: policies.Delayed,
		objects: web("Deployment", `annotations: {karpenter.sh/do-not-disrupt: "true"}`, ""),
		cure:    func(s *scene) { s.kubectl("annotate", "pod", s.pod.Name, "karpenter.sh/do-not-disrupt-") },
	},
	"freeze_window": {
		parameters: `{windows: [{name: release, from: "2020-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z"}]}`,
		drain:      true, outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		cure: func(s *scene) {
			s.bind(`{windows: [{name: release, from: "2020-01-01T00:00:00Z", until: "2020-02-01T00:00:00Z"}]}`)
		},
	},
	"gang": {
		nodes: 2, pods: 2, says: "the 2 pods", outcome: policies.Delayed,
		objects: alone("train-0", "a", ", evictgate.dev/gang: train") + "---" + alone("train-1", "b", ", evictgate.dev/gang: train"),
		cure:    func(s *scene) { s.kubectl("cordon", "--selector", "pool="+s.namespace) },
	},
	"impossible_budget": {
		parameters: "{effect: deny}", drain: true, outcome: policies.Denied,
		objects: web("Deployment", "", "") + `---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: $NS}
spec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}
`,
		prepare: func(s *scene) { s.awaitBudget(0) },
		cure: func(s *scene) {
			s.kubectl("patch", "poddisruptionbudget", "web", "--patch", "spec: {maxUnavailable: 1}")
			s.awaitBudget(1)
		},
	},
	"incident_freeze": {
		parameters: "{reason: INC-4711}", by: ops, outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		cure:    func(s *scene) { s.bind("{reason: INC-4711, active: false}") },
	},
	"last_ready_replica": {
		nodes: 2, drain: true, says: "has 1 ready of 1 wanted", outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		cure:    func(s *scene) { s.kubectl("scale", "deployment", "web", "--replicas=2") },
	},
	"local_storage": {
		outcome: policies.Denied, says: "claim data",
		objects: localData + web("Deployment", "", "volumes: [{name: scratch, emptyDir: {}}, {name: data, persistentVolumeClaim: {claimName: data}}]"),
		cure: func(s *scene) {
			s.kubectl("annotate", "pod", s.pod.Name, "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes=data,scratch")
		},
	},
	"long_session": {
		outcome: policies.Delayed,
		objects: web("Deployment", "annotations: {evictgate.dev/session: 20s}", ""),
		cure:    (*scene).letTimePass,
	},
	"minimum_age": {
		parameters: "{minimum: 20s}", outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		cure:    (*scene).letTimePass,
	},
	"node_outage_breaker": {
		parameters: "{not_ready: 1}", says: "$NS-lost", outcome: policies.Delayed,
		objects: lostNode + web("Deployment", "", ""),
		cure:    func(s *scene) { s.kubectl("delete", "node", s.namespace+"-lost") },
	},
	"one_zone_at_a_time": {
		nodes: 2, pods: 2, says: "(zone b: 1)", outcome: policies.Delayed,
		objects: web("Deployment", "", "topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]"),
		prepare: func(s *scene) {
			s.pod = s.podOn("a")
			s.setReady(s.podOn("b").Name, false)
		},
		cure: func(s *scene) { s.setReady(s.podOn("b").Name, true) },
	},
	"protected_namespaces": {
		parameters: "{min_priority: 900000}", excludes: "[{evictors: [{user: jane}]}]", outcome: policies.Denied,
		objects: `
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: $NS}
value: 900000
---
` + web("Deployment", "", "priorityClassName: $NS"),
		cure: func(s *scene) { s.by = jane },
	},
	"rate_limit": {
		pods: 2, parameters: "{limits: [{per: namespace, max: 1, period: 1h}]}", outcome: policies.Delayed,
		objects: web("Deployment", "", ""),
		prepare: (*scene).evictFirst,
		cure:    func(s *scene) { s.bind("{limits: [{per: namespace, max: 2, period: 1h}]}") },
	},
	"replacement_ready": {
		says: "has 1 ready of 1 needed", outcome: policies.Delayed,
		objects: web("Deployment", `annotations: {evictgate.dev/wanted-replicas: "1"}`, ""),
		cure:    func(s *scene) { s.kubectl("scale", "deployment", "web", "--replicas=2") },
	},
	"require_budget": {
		pods: 2, parameters: "{effect: deny}", outcome: policies.Denied,
		objects: web("Deployment", "", ""),
		cure: func(s *scene) { // as the message says
			command := regexp.MustCompile(`kubectl (create poddisruptionbudget .*--max-unavailable=1)`).FindStringSubmatch(s.answer)
			if command == nil {
				s.t.Fatal("the message has no command")
			}
			s.kubectl(strings.Fields(command[1])...)
			s.awaitBudget(1)
		},
	},
	"statefulset_quorum": {
		pods: 3, says: "has 2 ready of 3 wanted", outcome: policies.Delayed,
		objects: web("StatefulSet", "", ""),
		prepare: func(s *scene) { s.setReady("web-2", false) },
		cure:    func(s *scene) { s.setReady("web-2", true) },
	},
	"who_may_evict": {
		parameters: "{rules: [{name: owners, allow: {users: [jane]}}]}", outcome: policies.Denied,
		objects: web("Deployment", "", ""),
		cure:    func(s *scene) { s.by = jane },
	},
}

func TestEveryPolicyOfTheLibraryHasATrial(t *testing.T) {
	if diff := cmp.Diff(policies.LibraryIDs(), slices.Sorted(maps.Keys(trials))); diff != "" {
		t.Errorf("the trials of the library's policies (-want +got):\n%s", diff)
	}
}

// Every policy of the library, bound by an EvictionPolicy, refuses an eviction by kubectl on the real API
// server, and lets the same eviction pass when what it asks for is done.
func TestTheLibraryRefusesAndAdmits(t *testing.T) {
	scenes, g := library(t)
	t.Run("refused", func(t *testing.T) { each(t, scenes, (*scene).refused) })
	t.Run("admitted", func(t *testing.T) { each(t, scenes, (*scene).admitted) })
	if t.Failed() {
		return
	}
	if err := g.Terminate(); err != nil { // it writes the last records and counts
		t.Error(err)
	}
	records, err := g.Records()
	if err != nil {
		t.Fatal(err)
	}
	var transcript strings.Builder
	for _, s := range scenes {
		s.checkRecords(t, records)
		fmt.Fprintf(&transcript, "## %s\n%s\n", s.id, s.transcript())
	}
	fmt.Fprintf(&transcript, "## in the end\n%s", listed(t, scenes))
	golden(t, transcript.String())
}

// library sets the stage: a namespace and an EvictionPolicy for each trial, and a gate that serves them all.
func library(t *testing.T) ([]*scene, *gate.Gate) {
	t.Helper()
	space(t)
	if err := errors.Join(shared.InstallCRDs(t.Context()), shared.Apply(t.Context(), evictorRights)); err != nil {
		t.Fatal(err)
	}
	var scenes []*scene
	var bindings []string
	var namespaces []string
	for _, id := range policies.LibraryIDs() {
		s := newScene(t, id)
		scenes = append(scenes, s)
		bindings = append(bindings, s.binding(s.parameters))
		namespaces = append(namespaces, s.namespace)
	}
	g := open(t, gate.Options{Namespaces: namespaces, Policies: &metav1.LabelSelector{}, Args: []string{"--policies", "cluster"}})
	t.Cleanup(func() {
		_, _, _ = shared.Kubectl(context.WithoutCancel(t.Context()), append([]string{"delete", "evictionpolicies"}, namespaces...)...)
	})
	mustApply(t, shared.ControlPlane, strings.Join(bindings, "---\n"))
	if _, stderr, err := shared.Kubectl(t.Context(), append([]string{"wait", "--for=condition=Ready", "--timeout=60s", "evictionpolicies"}, namespaces...)...); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	return scenes, g
}

func each(t *testing.T, scenes []*scene, act func(*scene)) {
	for _, s := range scenes {
		t.Run(s.id, func(t *testing.T) {
			t.Parallel()
			s.t = t
			act(s)
		})
	}
}

// scene is a trial that runs.
type scene struct {
	trial
	id        string
	namespace string
	// all is the whole test, and t the part of it that runs.
	all, t *testing.T
	pod    corev1.Pod
	// evictor is who is refused.
	evictor string
	// answer is what kubectl printed until it was refused, at refusedAt; draining goes on.
	answer    string
	refusedAt time.Time
	draining  *drain
}

func newScene(t *testing.T, id string) *scene {
	t.Helper()
	trial, ok := trials[id]
	if !ok {
		t.Fatalf("%s has no trial", id)
	}
	s := &scene{trial: trial, id: id, evictor: trial.by, all: t, t: t}
	s.nodes, s.pods = max(s.nodes, 1), max(s.pods, 1)
	var err error
	if s.namespace, err = shared.Namespace(t.Context(), s.short()); err != nil {
		t.Fatal(err)
	}
	return s
}

// short is what the namespace's name, and those of the nodes and of the EvictionPolicy, begin with.
func (s *scene) short() string { return strings.ReplaceAll(s.id, "_", "-") }

func (s *scene) fill(text string) string {
	return strings.NewReplacer("$NS", s.namespace, "$PODS", fmt.Sprint(s.pods)).Replace(text)
}

// binding is the EvictionPolicy with these parameters.
func (s *scene) binding(parameters string) string {
	spec := "library: " + s.id + "\nenforcement: Enforce\nmatch:\n  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}"
	if s.excludes != "" {
		spec += "\n  excludes: " + s.excludes
	}
	if parameters != "" {
		spec += "\nparameters: " + parameters
	}
	return s.fill(bound(s.namespace, spec))
}

// bind gives the EvictionPolicy other parameters.
func (s *scene) bind(parameters string) {
	s.t.Helper()
	mustApply(s.t, shared.ControlPlane, s.binding(parameters))
	awaitPolicy(s.t, shared.ControlPlane, s.namespace, "ready", isReady)
}

// refused prepares the trial, and has kubectl evict the pod.
func (s *scene) refused() {
	s.t.Helper()
	if err := shared.Apply(s.t.Context(), s.fill(s.nodesYAML()+s.objects)); err != nil {
		s.t.Fatal(err)
	}
	s.pod = s.awaitPods()[0]
	if s.prepare != nil {
		s.prepare(s)
	}
	s.awaitRefusal()
	if s.drain {
		s.answer = s.drainUntilRefused()
	} else {
		answer, err := s.evict()
		if err == nil {
			s.t.Fatalf("the eviction is admitted: %s", answer)
		}
		s.answer = answer
	}
	s.refusedAt = time.Now()
}

// admitted does what the policy asks for, and has kubectl evict the pod once more.
func (s *scene) admitted() {
	s.t.Helper()
	if s.answer == "" {
		s.t.Skip("it was not refused")
	}
	s.cure(s)
	if s.drain {
		s.drainToTheEnd()
	} else {
		err := kube.Wait(s.t.Context(), "the eviction to be admitted", func(context.Context) (bool, error) {
			out, err := s.evict()
			return err == nil, errors.New(out)
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.awaitGone()
}

// nodesYAML are the nodes of the trial's pods alone, in the zones a and b.
func (s *scene) nodesYAML() string {
	var text strings.Builder
	for _, zone := range []string{"a", "b"}[:s.nodes] {
		fmt.Fprintf(&text, `
apiVersion: v1
kind: Node
metadata:
  name: $NS-%[1]s
  labels: {pool: $NS, kubernetes.io/hostname: $NS-%[1]s, topology.kubernetes.io/zone: %[1]s}
spec: {taints: [{key: pool, effect: NoSchedule}]}
---
`, zone)
	}
	return text.String()
}

func (s *scene) list() []corev1.Pod {
	s.t.Helper()
	pods, err := shared.Pods(s.t.Context(), s.namespace, "web")
	if err != nil {
		s.t.Fatal(err)
	}
	return pods
}

// awaitPods waits until the trial's pods are ready, and returns them, sorted by name.
func (s *scene) awaitPods() []corev1.Pod {
	s.t.Helper()
	var pods []corev1.Pod
	err := kube.Wait(s.t.Context(), "the pods to be ready", func(context.Context) (bool, error) {
		pods = s.list()
		waiting := slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
		return len(pods) == s.pods && !waiting, fmt.Errorf("there are %d", len(pods))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return pods
}

func (s *scene) podOn(zone string) corev1.Pod {
	s.t.Helper()
	pods := s.list()
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == s.namespace+"-"+zone })
	if i < 0 {
		s.t.Fatalf("no pod is in zone %s", zone)
	}
	return pods[i]
}

func (s *scene) setReady(pod string, ready bool) {
	s.t.Helper()
	if err := shared.SetPodReady(s.t.Context(), s.namespace, pod, ready); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) awaitBudget(allowed int32) {
	s.t.Helper()
	if err := shared.WaitBudget(s.t.Context(), s.namespace, "web", allowed); err != nil {
		s.t.Fatal(err)
	}
}

// evictFirst evicts one pod, so that another is the trial's.
func (s *scene) evictFirst() {
	s.t.Helper()
	pods := s.list()
	if err := evict(s.t.Context(), s.namespace, pods[0].Name, nil); err != nil {
		s.t.Fatal(err)
	}
	s.pod = pods[1]
}

// letTimePass waits for the 20 seconds of all trials that are about time.
func (s *scene) letTimePass() { time.Sleep(time.Until(s.refusedAt.Add(20 * time.Second))) }

func (s *scene) kubectl(args ...string) {
	s.t.Helper()
	if _, stderr, err := shared.Kubectl(s.t.Context(), append(args, "--namespace", s.namespace)...); err != nil {
		s.t.Fatalf("%v: %s", err, stderr)
	}
}

// awaitRefusal waits until a dry run is refused by the policy: the gate has seen what was prepared.
func (s *scene) awaitRefusal() {
	s.t.Helper()
	config := rest.CopyConfig(shared.Config)
	config.Impersonate.UserName = s.by
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: s.namespace, Name: s.pod.Name},
		DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
	}
	err = kube.Wait(s.t.Context(), "a dry run to be refused", func(ctx context.Context) (bool, error) {
		err := client.PolicyV1().Evictions(s.namespace).Evict(ctx, eviction)
		return err != nil && strings.Contains(err.Error(), s.fill(s.says)) && strings.Contains(err.Error(), s.fill("(policy $NS)")), err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// evict has kubectl create the Eviction, and returns all that it printed.
func (s *scene) evict() (string, error) {
	eviction := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"namespace": %q, "name": %q}}`, s.namespace, s.pod.Name)
	args := []string{"create", "--raw", s.path(), "--filename", "-"}
	if s.by != "" {
		args = append(args, "--as", s.by)
	}
	var out strings.Builder
	err := shared.KubectlTo(s.t.Context(), strings.NewReader(eviction), &out, &out, args...)
	return out.String(), err
}

func (s *scene) path() string {
	return "/api/v1/namespaces/" + s.namespace + "/pods/" + s.pod.Name + "/eviction"
}

// drainArgs follow those that startDrain gives.
var drainArgs = []string{"--pod-selector", "app=web", "--timeout", "5m"}

// drainUntilRefused drains the pod's node until kubectl is told why the pod stays, and returns what it printed.
// A drain that is to come back later goes on.
func (s *scene) drainUntilRefused() string {
	s.t.Helper()
	s.draining = startDrain(s.all, s.pod.Spec.NodeName, drainArgs...)
	if s.outcome == policies.Delayed {
		s.draining.sees(s.t, s.fill("(policy $NS)"), 1)
	} else if err := s.draining.wait(s.t); err == nil {
		s.t.Fatalf("the drain succeeded:\n%s", s.draining.text())
	}
	return s.draining.text()
}

// drainToTheEnd waits for the drain, or drains once more when it was refused for good.
func (s *scene) drainToTheEnd() {
	s.t.Helper()
	if s.outcome == policies.Denied {
		s.draining = startDrain(s.all, s.pod.Spec.NodeName, drainArgs...)
	}
	if err := s.draining.wait(s.t); err != nil {
		s.t.Fatalf("%v; it printed:\n%s", err, s.draining.text())
	}
	contains(s.t, s.draining.text(), "pod/"+s.pod.Name+" evicted", "node/"+s.pod.Spec.NodeName+" drained")
}

func (s *scene) awaitGone() {
	s.t.Helper()
	err := kube.Wait(s.t.Context(), "the pod to go", func(ctx context.Context) (bool, error) {
		pod, err := shared.Client.CoreV1().Pods(s.namespace).Get(ctx, s.pod.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && pod.UID != s.pod.UID, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// transcript is what was typed and printed, with names that do not change from run to run. What a drain says
// each time that it tries stands there once.
func (s *scene) transcript() string {
	command := "kubectl create --raw " + s.path() + " --filename -"
	if s.drain {
		command = "kubectl drain " + s.pod.Spec.NodeName + " --ignore-daemonsets --force " + strings.Join(drainArgs, " ")
	}
	if s.evictor != "" {
		command += " --as " + s.evictor
	}
	var lines []string
	for line := range strings.Lines("$ " + command + "\n" + s.answer) {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	text := strings.NewReplacer(s.pod.Spec.NodeName, "NODE", s.pod.Name, "POD").Replace(strings.Join(lines, ""))
	return manyNodes.ReplaceAllString(strings.ReplaceAll(text, s.namespace, s.short()), "D of N nodes are not ready (NAMES)")
}

// manyNodes are all nodes of the cluster, which other tests create, too.
var manyNodes = regexp.MustCompile(`\d+ of \d+ nodes are not ready \([^)]*\)`)

// checkRecords looks for the refusal by the policy, and for the admission after it.
func (s *scene) checkRecords(t *testing.T, all []record.Record) {
	t.Helper()
	var own []record.Record
	for _, r := range all {
		if r.Request.Namespace == s.namespace && r.Pod != nil && r.Pod.UID == string(s.pod.UID) && !r.Request.DryRun {
			own = append(own, r)
		}
	}
	if len(own) < 2 {
		t.Errorf("%s: %d records", s.id, len(own))
		return
	}
	first, last := own[0], own[len(own)-1]
	enforced := slices.ContainsFunc(first.Result.Violations, func(v policies.Violation) bool { return v.Policy == s.namespace && v.Enforcing() })
	if first.Result.Outcome != s.outcome || !enforced {
		t.Errorf("%s: refused as %s by %+v", s.id, first.Result.Outcome, first.Result.Violations)
	}
	if last.Result.Outcome != policies.Admitted {
		t.Errorf("%s: in the end it is %s by %+v", s.id, last.Result.Outcome, last.Result.Violations)
	}
	asked := []string{userOf(s.evictor), userOf(s.by)}
	if diff := cmp.Diff(asked, []string{first.RequestedBy, last.RequestedBy}); diff != "" {
		t.Errorf("%s: requested by (-want +got):\n%s", s.id, diff)
	}
}

// userOf is the name of a user given as kubectl --as takes it.
func userOf(as string) string {
	if as == "" {
		return "evictgate-test-admin"
	}
	return as
}

// listed is what kubectl lists of the EvictionPolicies, without their ages, and with some for each count above
// none.
func listed(t *testing.T, scenes []*scene) string {
	t.Helper()
	out, stderr, err := shared.Kubectl(t.Context(), "get", "evictionpolicies")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	for _, s := range scenes {
		out = strings.ReplaceAll(out, s.namespace, s.short())
	}
	var text strings.Builder
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		line = strings.Join(fields[:len(fields)-1], " ")
		text.WriteString(regexp.MustCompile(` [1-9][0-9]*\b`).ReplaceAllString(line, " some") + "\n")
	}
	return text.String()
}

func golden(t *testing.T, got string) {
	t.Helper()
	name := filepath.Join("testdata", "library.txt")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(name, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("kubectl prints something else; look at it, and if it is right run go test ./test/suites/e2e -run Library -update (-want +got):\n%s", diff)
	}
}
