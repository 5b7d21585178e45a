package budget

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
)

var (
	since = metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	later = metav1.NewTime(since.Add(time.Minute))
)

// named is a pod that runs and is not ready; the options change it.
func named(name string, options ...func(*corev1.Pod)) *corev1.Pod {
	p := running(corev1.ConditionFalse)
	p.Name = name
	p.Status.Conditions[0].LastTransitionTime = since
	p.Status.Conditions[0].Reason = "ContainersNotReady"
	for _, o := range options {
		o(p)
	}
	return p
}

func ready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionTrue }

func waits(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses,
			corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}})
	}
}

func ended(code int32, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}
}

func pending(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }

func TestBlockers(t *testing.T) {
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want []policies.Blocker
	}{
		"a ready pod blocks nothing":     {named("p", ready), []policies.Blocker{}},
		"a finished pod is left out":     {named("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), []policies.Blocker{}},
		"a failed pod is left out":       {named("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), []policies.Blocker{}},
		"a container that crashes":       {named("p", waits("CrashLoopBackOff")), []policies.Blocker{{Name: "p", Why: "CrashLoopBackOff", Since: &since}}},
		"an image that cannot be pulled": {named("p", pending, waits("ImagePullBackOff")), []policies.Blocker{{Name: "p", Why: "ImagePullBackOff", Since: &since}}},
		"a failing readiness probe":      {named("p", waits("")), []policies.Blocker{{Name: "p", Why: "readiness probe failing", Since: &since}}},
		"a readiness gate":               {named("p", func(p *corev1.Pod) { p.Status.Conditions[0].Reason = "ReadinessGatesNotReady" }), []policies.Blocker{{Name: "p", Why: "ReadinessGatesNotReady", Since: &since}}},
		"a container that ended badly": {named("p", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{ended(0, "Completed"), ended(137, "OOMKilled")}
		}), []policies.Blocker{{Name: "p", Why: "OOMKilled", Detail: "exit code 137", Since: &since}}},
		"a bad end without a reason": {named("p", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{ended(1, "")} }), []policies.Blocker{{Name: "p", Why: "Error", Detail: "exit code 1", Since: &since}}},
		"an init container that crashes": {named("p", pending, waits("PodInitializing"), func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{ended(0, "Completed"), {State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
		}), []policies.Blocker{{Name: "p", Why: "CrashLoopBackOff", Since: &since}}},
		"init containers that still run": {named("p", pending, waits("PodInitializing")), []policies.Blocker{{Name: "p", Why: "Pending", Since: &since}}},
		"a pod that fits on no node": {named("p", pending, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", LastTransitionTime: later}}
		}), []policies.Blocker{{Name: "p", Why: "Unschedulable", Since: &later}}},
		"a pod that is not scheduled, without reason or time": {named("p", pending, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse}}
		}), []policies.Blocker{{Name: "p", Why: "not scheduled"}}},
		"a terminating pod, since its deletion was asked for": {named("p", ready, func(p *corev1.Pod) {
			grace := int64(60)
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &later, &grace
		}), []policies.Blocker{{Name: "p", Why: "Terminating", Since: &since, Until: &later}}},
		"a terminating pod without a grace period": {named("p", func(p *corev1.Pod) { p.DeletionTimestamp = &later }), []policies.Blocker{{Name: "p", Why: "Terminating", Since: &later, Until: &later}}},
		"a terminating pod that a finalizer holds": {named("p", func(p *corev1.Pod) {
			p.DeletionTimestamp, p.Finalizers = &later, []string{"example.com/a", "example.com/b"}
		}), []policies.Blocker{{Name: "p", Why: "Terminating", Detail: "held by example.com/a, example.com/b", Since: &later, Until: &later}}},
		"what the scheduler says, cut short": {named("p", pending, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: strings.Repeat("ä", 300), LastTransitionTime: later}}
		}), []policies.Blocker{{Name: "p", Why: "Unschedulable", Detail: strings.Repeat("ä", 200) + "…", Since: &later}}},
		"what the kubelet says of a container": {named("p", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}}}
		}), []policies.Blocker{{Name: "p", Why: "ErrImagePull", Detail: "no such image", Since: &since}}},
		"a pod without a status": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, []policies.Blocker{{Name: "p", Why: "not ready"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Blockers([]*corev1.Pod{tt.pod})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The details are what people read; they are written out in full.
func TestExplain(t *testing.T) {
	minimum := func(s string) option {
		return func(b *policyv1.PodDisruptionBudget) { v := intstr.Parse(s); b.Spec.MinAvailable = &v }
	}
	maximum := func(s string) option {
		return func(b *policyv1.PodDisruptionBudget) {
			v := intstr.Parse(s)
			b.Spec.MinAvailable, b.Spec.MaxUnavailable = nil, &v
		}
	}
	healthy := named("web-1", ready)
	crashing := named("web-2", waits("CrashLoopBackOff"))
	// How many pods the controllers want, where that is more than there are.
	wanted := map[string]int{"a number that all existing pods must meet, while more are wanted": 5}
	type budgets = []*policyv1.PodDisruptionBudget
	type pods = []*corev1.Pod
	for name, tt := range map[string]struct {
		budgets budgets
		pods    pods
		detail  string
		cure    string
	}{
		"one pod that blocks": {
			budgets{pdb(health(2, 2, 3))}, pods{healthy, named("web-3", ready), crashing},
			"Budget shop/b needs 2 healthy of 3 expected pods and has 2; waiting for web-2 (CrashLoopBackOff); it allows the next eviction once 1 more pod is ready",
			"fix or wait for web-2 (CrashLoopBackOff)",
		},
		"several pods must become ready": {
			budgets{pdb(health(0, 2, 3))}, pods{crashing, named("web-1", waits("ImagePullBackOff")), named("web-3")},
			"Budget shop/b needs 2 healthy of 3 expected pods and has 0; waiting for web-1 (ImagePullBackOff), web-2 (CrashLoopBackOff), web-3 (readiness probe failing); it allows the next eviction once 3 more pods are ready",
			"fix or wait for web-1 (ImagePullBackOff), web-2 (CrashLoopBackOff), web-3 (readiness probe failing)",
		},
		"more than three pods that block": {
			budgets{pdb(health(3, 5, 8))}, pods{named("e"), named("d"), named("c"), named("b"), named("a", waits("CrashLoopBackOff"))},
			"Budget shop/b needs 5 healthy of 8 expected pods and has 3; waiting for a (CrashLoopBackOff), b (readiness probe failing), c (readiness probe failing) and 2 more; it allows the next eviction once 3 more pods are ready",
			"fix or wait for a (CrashLoopBackOff), b (readiness probe failing), c (readiness probe failing) and 2 more",
		},
		"pods that do not exist": {
			budgets{pdb(health(2, 2, 3))}, pods{healthy, named("web-3", ready)},
			"Budget shop/b needs 2 healthy of 3 expected pods and has 2; 1 of the expected pods does not exist; see why their controller creates none; it allows the next eviction once 1 more pod is ready",
			"see why the controller of the missing pods creates none (quota, admission, a paused rollout)",
		},
		"evictions under way": {
			budgets{pdb(health(2, 2, 2+1), disrupted(1))}, pods{healthy, named("web-2", ready), named("web-3", ready)},
			"Budget shop/b needs 2 healthy of 3 expected pods and has 2; the last admitted evictions are still under way; it allows the next one when their replacements are ready",
			"wait until the replacements are ready",
		},
		"nothing to be seen": {
			budgets{pdb()}, pods{healthy, named("web-2", ready), named("web-3", ready)},
			"Budget shop/b needs 2 healthy of 3 expected pods and has 2; it allows the next eviction once 1 more pod is ready",
			"wait until more pods are ready",
		},
		"minAvailable of all pods": {
			budgets{pdb(minimum("100%"), health(3, 3, 3))}, pods{healthy},
			"Budget shop/b needs 3 healthy of 3 expected pods and has 3; it can never allow a disruption: with minAvailable 100% all 3 pods must stay healthy; lower minAvailable or add replicas",
			"change the budget: with minAvailable 100% all 3 pods must stay healthy; lower minAvailable or add replicas",
		},
		"a percentage that rounds up to all pods": {
			budgets{pdb(minimum("90%"), health(5, 5, 5))}, pods{healthy},
			"Budget shop/b needs 5 healthy of 5 expected pods and has 5; it can never allow a disruption: minAvailable 90% of 5 pods is 4.5, rounded up to 5, which is all of them; lower minAvailable or add replicas",
			"change the budget: minAvailable 90% of 5 pods is 4.5, rounded up to 5, which is all of them; lower minAvailable or add replicas",
		},
		"a number that all existing pods must meet, while more are wanted": {
			budgets{pdb(minimum("3"), health(3, 3, 3))}, pods{healthy, named("web-2", ready), named("web-3", ready)},
			"Budget shop/b needs 3 healthy of 3 expected pods and has 3; 2 of the expected pods do not exist; see why their controller creates none; it allows the next eviction once 1 more pod is ready",
			"see why the controller of the missing pods creates none (quota, admission, a paused rollout)",
		},
		"two pods that do not exist": {
			budgets{pdb(health(2, 2, 4))}, pods{healthy, named("web-3", ready)},
			"Budget shop/b needs 2 healthy of 4 expected pods and has 2; 2 of the expected pods do not exist; see why their controller creates none; it allows the next eviction once 1 more pod is ready",
			"see why the controller of the missing pods creates none (quota, admission, a paused rollout)",
		},
		"maxUnavailable 0, and a pod that is not ready": {
			budgets{pdb(maximum("0"), health(2, 3, 3))}, pods{healthy, crashing},
			"Budget shop/b needs 3 healthy of 3 expected pods and has 2; it can never allow a disruption: with maxUnavailable 0 all 3 pods must stay healthy; raise maxUnavailable; also not ready: web-2 (CrashLoopBackOff)",
			"change the budget: with maxUnavailable 0 all 3 pods must stay healthy; raise maxUnavailable",
		},
		"pods without a controller under a percentage": {
			budgets{pdb(maximum("50%"), health(1, 0, 0))}, pods{healthy},
			"Budget shop/b needs 0 healthy of 0 expected pods and has 1; it can never allow a disruption: maxUnavailable 50% counts pods by their controller's scale, and these have none, so it expects 0 and allows none; use a minAvailable number below the number of pods",
			"change the budget: maxUnavailable 50% counts pods by their controller's scale, and these have none, so it expects 0 and allows none; use a minAvailable number below the number of pods",
		},
		"a failed sync": {
			budgets{pdb(conditionIs("False", "SyncFailed", "no scale"))}, pods{healthy},
			"Budget shop/b failed to sync (no scale); fix the budget, retrying does not help until then",
			"fix the budget",
		},
		"a budget that could never be synced": {
			budgets{pdb(unseen, conditionIs("False", "SyncFailed", "no scale"))}, pods{healthy},
			"Budget shop/b could never be synced (no scale); fix the budget, retrying does not help until then",
			"fix the budget",
		},
		"a budget that is being processed": {
			budgets{pdb(unseen)}, pods{healthy},
			"Budget shop/b is still being processed: the disruption controller has not seen its newest spec; retry in some seconds, and if this lasts see whether kube-controller-manager runs",
			"wait some seconds; if this lasts see whether kube-controller-manager runs",
		},
		"a negative number": {
			budgets{pdb(allows(-1))}, pods{healthy},
			`poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative; something other than the disruption controller writes its status`,
			"find out what writes the budget's status",
		},
		"too many unconfirmed evictions": {
			budgets{pdb(allows(1), disrupted(2001))}, pods{healthy},
			`poddisruptionbudget.policy "b" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller; see whether kube-controller-manager runs`,
			"see whether kube-controller-manager runs",
		},
		"two budgets": {
			budgets{pdb(), pdb(func(b *policyv1.PodDisruptionBudget) { b.Name = "c" })}, nil,
			"This pod has more than one PodDisruptionBudget, which the eviction subresource does not support. It is selected by shop/b (every pod) and shop/c (every pod); change the selectors or delete all but one of these budgets, retrying does not help.",
			"change the selectors until one budget selects the pod, or delete the others",
		},
		"nothing to explain when it is allowed": {budgets{pdb(allows(1))}, pods{crashing}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := Check(running(corev1.ConditionTrue), tt.budgets)
			want := &policies.Disruption{
				Allowed: a.Allowed(), Code: a.Code, Reason: string(a.Reason), Message: a.Message, Cause: a.Cause(),
				Detail: tt.detail, Budgets: []string{"b"}, Blockers: Blockers(tt.pods), Cures: cures(tt.cure),
			}
			if len(tt.budgets) > 1 {
				want.Budgets = []string{"b", "c"}
			}
			if a.Allowed() {
				want.Blockers, want.Cures = []policies.Blocker{}, []string{}
			}
			if diff := cmp.Diff(want, Explain(a, tt.budgets, tt.pods, wanted[name])); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Cluster API groups refusals by identical text: the detail is the same for every pod of a workload
// that gets the same answer, in whatever order its pods are listed.
func TestTheDetailDoesNotDependOnThePodNorOnTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pods []*corev1.Pod
		for i := range rapid.IntRange(1, 6).Draw(t, "pods") {
			why := rapid.SampledFrom([]func(*corev1.Pod){ready, waits("CrashLoopBackOff"), pending, func(p *corev1.Pod) { p.DeletionTimestamp = &later }}).Draw(t, "state")
			pods = append(pods, named(fmt.Sprint("web-", i), why))
		}
		n := func() int32 { return rapid.Int32Range(0, 4).Draw(t, "n") }
		budgets := []*policyv1.PodDisruptionBudget{pdb(health(n(), n(), n()), disrupted(int(n())))}
		details := map[Case]string{}
		for _, pod := range pods {
			a := Check(pod, budgets)
			d := Explain(a, budgets, rapid.Permutation(pods).Draw(t, "order"), len(pods))
			if first, ok := details[a.Case]; ok && first != d.Detail {
				t.Fatalf("%s: %q and %q", a.Case, first, d.Detail)
			}
			details[a.Case] = d.Detail
			if a.Allowed() != (d.Detail == "") {
				t.Fatalf("%s is explained by %q", a.Case, d.Detail)
			}
			if !slices.IsSortedFunc(d.Blockers, func(a, b policies.Blocker) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("blockers are not sorted: %v", d.Blockers)
			}
		}
	})
}
