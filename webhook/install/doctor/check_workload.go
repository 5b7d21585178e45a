package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/output"
)

// checkWorkload looks at the replicas as Kubernetes sees them.
func checkWorkload(f *Facts, l *findings) {
	const check = "replicas"
	name := f.Namespace + "/" + f.Name
	switch {
	case f.Deployment.missing() && !f.inCluster():
		l.skip(check, "the gate runs outside the cluster: there is no Deployment %s", name)
		return
	case f.Deployment.missing():
		f.reapply(l.problem(check, "Deployment %s does not exist", name), "name the namespace by --namespace, or %s")
		return
	case f.Deployment.Err != nil:
		l.skip(check, "%s", f.Deployment.why())
		return
	}
	d := f.Deployment.Value
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	switch ready, lack := d.Status.ReadyReplicas, f.lackOfPods(); {
	case wanted == 0:
		l.problem(check, "Deployment %s is scaled to no replica at all", name).cure("scale it up").run("kubectl -n %s scale deployment %s --replicas=3", f.Namespace, f.Name)
	case ready == 0 && lack != "":
		l.problem(check, "none of %d replicas is ready: %s", wanted, lack).cure("see why pods are not made").run("kubectl -n %s describe replicasets", f.Namespace)
	case ready < wanted && lack != "":
		l.warn(check, "%d of %d replicas are ready: %s", ready, wanted, lack).cure("see why pods are not made").run("kubectl -n %s describe replicasets", f.Namespace)
	case ready == 0:
		l.problem(check, "none of %d replicas is ready", wanted).cure("see the pods").run("kubectl -n %s describe pods", f.Namespace)
	case ready < wanted:
		l.warn(check, "%d of %d replicas are ready", ready, wanted).cure("see the pods that are not").run("kubectl -n %s get pods -o wide", f.Namespace)
	case wanted == 1:
		l.warn(check, "there is one replica only: while it moves or restarts nobody decides").cure("run three").run("kubectl -n %s scale deployment %s --replicas=3", f.Namespace, f.Name)
	case d.Status.UpdatedReplicas < wanted || d.Status.ObservedGeneration < d.Generation:
		l.note(check, "an update is under way: %d of %d replicas are of the new template", d.Status.UpdatedReplicas, wanted)
	default:
		l.ok(check, "%d of %d replicas are ready", ready, wanted)
	}
	checkPods(f, l)
}

// lackOfPods says why pods are not made: a quota, Pod Security or a webhook forbids them. It is empty when they are.
func (f *Facts) lackOfPods() string {
	refused, progress := "", "there is no pod"
	for _, c := range f.Deployment.Value.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			refused = c.Message
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse:
			progress = c.Message
		}
	}
	if refused == "" && f.Pods.Err == nil && len(f.readyPods())+len(f.unreadyPods()) == 0 {
		return progress
	}
	return refused
}

// readyPods are those that answer.
func (f *Facts) readyPods() []corev1.Pod { return f.runningPods(true) }

// unreadyPods are those that should answer, and do not.
func (f *Facts) unreadyPods() []corev1.Pod { return f.runningPods(false) }

// runningPods are those that have not ended and are not about to; what ended stays for long, and has a successor.
func (f *Facts) runningPods(ready bool) []corev1.Pod {
	var list []corev1.Pod
	for _, p := range f.Pods.Value {
		ended := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		if p.DeletionTimestamp == nil && !ended && isReady(&p) == ready {
			list = append(list, p)
		}
	}
	return list
}

func isReady(p *corev1.Pod) bool {
	c := readiness(p)
	return c != nil && c.Status == corev1.ConditionTrue
}

// readiness is the pod's Ready condition; nil when it has none yet.
func readiness(p *corev1.Pod) *corev1.PodCondition {
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	if i < 0 {
		return nil
	}
	return &p.Status.Conditions[i]
}

func checkPods(f *Facts, l *findings) {
	if f.Pods.Err != nil {
		l.skip("replicas.pods", "%s", f.Pods.why())
		return
	}
	for _, p := range f.unreadyPods() {
		text := fmt.Sprintf("pod %s is not ready: %s", p.Name, whyNotReady(&p))
		if hint := logHint(f.Logs[p.Name]); hint != "" {
			text += "; its log says: " + hint
		}
		l.warn("replicas.pods", "%s", text).cure("see its events and its log").
			run("kubectl -n %s describe pod %s; kubectl -n %s logs %s --tail=20", p.Namespace, p.Name, p.Namespace, p.Name)
	}
	images := distinct(f.readyPods(), func(p corev1.Pod) []string {
		var list []string
		for _, c := range p.Spec.Containers {
			if c.Name == f.Name {
				list = append(list, c.Image)
			}
		}
		return list
	})
	if len(images) > 1 {
		l.warn("replicas.images", "the replicas run different images: %s", some(images, 3)).
			cure("wait for the update to end, or see why it does not").run("kubectl -n %s rollout status deployment %s", f.Namespace, f.Name)
	}
}

func distinct(pods []corev1.Pod, of func(corev1.Pod) []string) []string {
	var list []string
	for _, p := range pods {
		list = append(list, of(p)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// whyNotReady is what the pod's status says, the nearest to the cause first.
func whyNotReady(p *corev1.Pod) string {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" {
			return strings.TrimSpace(w.Reason + " " + w.Message)
		}
		if t := s.State.Terminated; t != nil {
			return fmt.Sprintf("its container ended with code %d", t.ExitCode)
		}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.ContainersReady, corev1.PodReady} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionFalse && c.Message != "" {
				return c.Message
			}
		}
	}
	return "its phase is " + string(p.Status.Phase)
}

// maxHint bounds what is repeated of a log, in bytes.
const maxHint = 300

// logHint finds in the last lines of a log, as text or JSON, why serve is not ready, or its last error.
func logHint(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		var line struct{ Msg, Why, Error, Level string }
		if json.Unmarshal([]byte(lines[i]), &line) == nil && line.Msg != "" {
			if why := line.Why + line.Error; why != "" {
				return shortened(line.Msg + ": " + why)
			}
			continue
		}
		if strings.Contains(lines[i], "not ready") || strings.Contains(lines[i], "level=ERROR") || strings.HasPrefix(lines[i], "evictgate: ") || strings.HasPrefix(lines[i], "panic: ") {
			return shortened(lines[i])
		}
	}
	return ""
}

func shortened(text string) string {
	if len(text) > maxHint {
		return strings.ToValidUTF8(text[:maxHint], "") + "…"
	}
	return text
}

// checkSpread: what takes one node away must not take the gate away.
func checkSpread(f *Facts, l *findings) {
	const check = "replicas.spread"
	ready := f.readyPods()
	if f.Deployment.Value == nil || len(ready) < 2 {
		return
	}
	nodes := distinct(ready, func(p corev1.Pod) []string { return []string{p.Spec.NodeName} })
	switch {
	case len(nodes) > 1:
		l.ok(check, "%d ready replicas are on %d nodes", len(ready), len(nodes))
	case f.Nodes.Err != nil:
		l.note(check, "all %d replicas are on node %s; whether others would take them is not known: %s", len(ready), nodes[0], f.Nodes.why())
	case f.usableNodes() < 2:
		l.note(check, "all %d replicas are on node %s, the only one that takes them", len(ready), nodes[0])
	default:
		l.warn(check, "all %d replicas are on node %s: nobody decides when it is lost or drained", len(ready), nodes[0]).
			cure("see why they are not spread, then have them placed anew").run("kubectl -n %s rollout restart deployment %s", f.Namespace, f.Name)
	}
	if f.Deployment.Value.Spec.Template.Spec.PriorityClassName == "" {
		l.warn("replicas.priority", "the replicas have no priorityClassName: ordinary pods may push them aside").cure("set system-cluster-critical in the Deployment")
	}
}

// usableNodes counts those that a replica may be placed on, but for what it tolerates and for room.
func (f *Facts) usableNodes() int {
	selector := labels.SelectorFromSet(f.Deployment.Value.Spec.Template.Spec.NodeSelector)
	n := 0
	for _, node := range f.Nodes.Value {
		tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule })
		if !tainted && !node.Spec.Unschedulable && selector.Matches(labels.Set(node.Labels)) {
			n++
		}
	}
	return n
}

// checkBudget looks at the gate's own budget.
func checkBudget(f *Facts, l *findings) {
	const check = "budget"
	if f.Deployment.Value == nil {
		return
	}
	if f.PDBs.Err != nil {
		l.skip(check, "%s", f.PDBs.why())
		return
	}
	set := labels.Set(f.Deployment.Value.Spec.Template.Labels)
	found := 0
	for _, pdb := range f.PDBs.Value {
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil || !selector.Matches(set) {
			continue
		}
		found++
		if pdb.Status.DisruptionsAllowed == 0 && pdb.Status.ExpectedPods > 0 {
			l.warn(check, "PodDisruptionBudget %s/%s allows no disruption now (%d of %d pods healthy, %d needed): nodes of the gate cannot be drained", pdb.Namespace, pdb.Name,
				pdb.Status.CurrentHealthy, pdb.Status.ExpectedPods, pdb.Status.DesiredHealthy).
				cure("fix the pods that are not ready; if all are, let the budget allow one: maxUnavailable 1").run("kubectl -n %s get pods,poddisruptionbudgets", pdb.Namespace)
		} else {
			l.ok(check, "PodDisruptionBudget %s/%s allows %d %s", pdb.Namespace, pdb.Name, pdb.Status.DisruptionsAllowed, output.Plural("disruption", int(pdb.Status.DisruptionsAllowed)))
		}
	}
	switch {
	case found == 0:
		f.reapply(l.warn(check, "no PodDisruptionBudget selects the replicas: a drain may take all at once"), "%s")
	case found > 1:
		l.problem(check, "%d PodDisruptionBudgets select the replicas: the API server refuses to evict any", found).cure("leave one").
			run("kubectl -n %s get poddisruptionbudgets", f.Namespace)
	}
}
