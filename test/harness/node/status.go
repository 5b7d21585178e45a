//go:build linux

package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// update changes the status of a container.
func (p *pod) update(i int, change func(*corev1.ContainerStatus)) {
	p.mu.Lock()
	change(&p.statuses[i])
	p.mu.Unlock()
	p.nudge()
}

// waitingFor sets the reason of all containers that have not run yet.
func (p *pod) waitingFor(reason, message string) {
	for i := range p.statuses {
		p.update(i, func(s *corev1.ContainerStatus) {
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		})
	}
}

func (p *pod) nudge() {
	select {
	case p.changed <- struct{}{}:
	default: // somebody said so already
	}
}

// publish writes the status whenever it changes, until there is enough; then once more. It goes on trying
// while the API server is away.
func (p *pod) publish(enough <-chan struct{}) {
	var sent *corev1.PodStatus
	for last := false; !last; {
		select {
		case <-p.changed:
		case <-enough:
			last = true
		}
		status := p.status(sent)
		if sent != nil && equality.Semantic.DeepEqual(*sent, status) {
			continue
		}
		if !p.write(&status) {
			return
		}
		sent = &status
	}
}

// write says false when there is nothing left to write to.
func (p *pod) write(status *corev1.PodStatus) bool {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.uid}, "status": status})
	if err != nil {
		return false
	}
	for p.ctx.Err() == nil {
		_, err = p.agent.client.CoreV1().Pods(p.namespace).Patch(p.agent.ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err == nil {
			return true
		}
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // or another pod of the name
			return false
		}
		time.Sleep(look)
	}
	return false
}

// status is what is true now; sent is what was written last. Conditions of others stay, since they are
// merged by type.
func (p *pod) status(sent *corev1.PodStatus) corev1.PodStatus {
	o := p.pod()
	p.mu.Lock()
	statuses := make([]corev1.ContainerStatus, len(p.statuses))
	for i := range p.statuses {
		statuses[i] = *p.statuses[i].DeepCopy()
	}
	p.mu.Unlock()
	var before []corev1.PodCondition
	started := metav1.Now()
	if sent != nil {
		before, started = sent.Conditions, *sent.StartTime
	}
	status := corev1.PodStatus{
		ObservedGeneration: o.Generation,
		Phase:              phase(o.Spec.RestartPolicy, statuses, p.dying()),
		HostIP:             o.Status.HostIP,
		HostIPs:            []corev1.HostIP{{IP: o.Status.HostIP}},
		StartTime:          &started,
		ContainerStatuses:  statuses,
		Conditions:         conditions(statuses, o.Status.PodIP != "", before),
	}
	if ip := o.Status.PodIP; ip != "" {
		status.PodIP, status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
	return status
}

// phase follows from the containers: a pod has finished when all have, and none is to be started again.
func phase(policy corev1.RestartPolicy, statuses []corev1.ContainerStatus, dying bool) corev1.PodPhase {
	begun, ended, failed := false, 0, false
	for _, s := range statuses {
		begun = begun || s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
		if t := s.State.Terminated; t != nil && (dying || !again(policy, t.ExitCode)) {
			ended++
			failed = failed || t.ExitCode != 0
		}
	}
	switch {
	case !begun:
		return corev1.PodPending
	case ended < len(statuses):
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// again says whether a container that has ended is started again.
func again(policy corev1.RestartPolicy, exit int32) bool {
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && exit != 0
}

// conditions are those that a kubelet writes; the time of one that is as before is kept.
func conditions(statuses []corev1.ContainerStatus, network bool, before []corev1.PodCondition) []corev1.PodCondition {
	var unready []string
	for _, s := range statuses {
		if !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	reason, message := "", ""
	if len(unready) > 0 {
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	all := []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: truth(network)},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.ContainersReady, Status: truth(len(unready) == 0), Reason: reason, Message: message},
		{Type: corev1.PodReady, Status: truth(len(unready) == 0), Reason: reason, Message: message},
	}
	for i, c := range all {
		all[i].LastTransitionTime = metav1.Now()
		was := slices.IndexFunc(before, func(b corev1.PodCondition) bool { return b.Type == c.Type && b.Status == c.Status })
		if was >= 0 {
			all[i].LastTransitionTime = before[was].LastTransitionTime
		}
	}
	return all
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
