//go:build linux

package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// look is how often a pod's volumes are compared with the cluster, and what failed is tried again.
const look = 500 * time.Millisecond

// pod is one pod on one of our nodes, from the moment it is bound until its object is gone.
type pod struct {
	agent           *Agent
	namespace, name string
	uid             types.UID
	dir             string
	latest          atomic.Pointer[corev1.Pod]

	ctx      context.Context // ends when the object is gone, or the agent stops
	cancel   context.CancelFunc
	deleting chan struct{} // closed when the pod is to terminate
	once     sync.Once

	network *sandbox
	volumes map[string]*volume

	mu         sync.Mutex
	containers []*process
	statuses   []corev1.ContainerStatus
	changed    chan struct{}
	told       map[string]bool // events that were sent
}

func (a *Agent) newPod(o *corev1.Pod) *pod {
	p := &pod{
		agent: a, namespace: o.Namespace, name: o.Name, uid: o.UID,
		dir:      filepath.Join(a.options.Network.dir, "pods", string(o.UID)),
		deleting: make(chan struct{}), changed: make(chan struct{}, 1),
		volumes: map[string]*volume{}, told: map[string]bool{},
		containers: make([]*process, len(o.Spec.Containers)),
	}
	p.latest.Store(o)
	p.ctx, p.cancel = context.WithCancel(a.ctx)
	for _, v := range o.Spec.Volumes {
		p.volumes[v.Name] = newVolume(v, filepath.Join(p.dir, "volumes", v.Name))
	}
	for _, c := range o.Spec.Containers {
		waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
		p.statuses = append(p.statuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: waiting, Started: new(bool)})
	}
	return p
}

// pod is the object as it was seen last, with the addresses that only we know at first.
func (p *pod) pod() *corev1.Pod {
	o := *p.latest.Load()
	o.Status.HostIP = p.agent.options.Network.Gateway()
	if p.network != nil {
		o.Status.PodIP = p.network.address()
	}
	return &o
}

func (p *pod) terminate() { p.once.Do(func() { close(p.deleting) }) }

// run is the pod's life. What fails is tried again until the pod is deleted.
func (p *pod) run() {
	defer p.cancel()
	published := make(chan struct{})
	enough := make(chan struct{})
	go func() {
		defer close(published)
		p.publish(enough)
	}()
	if p.prepare() {
		p.runContainers()
	}
	select { // a pod that has finished stays until somebody deletes it
	case <-p.deleting:
	case <-p.ctx.Done():
	}
	close(enough)
	<-published
	p.dismantle()
	p.remove()
}

// prepare makes network and volumes. It says false when the pod is deleted before they are there.
func (p *pod) prepare() bool {
	if what := refusal(p.pod()); what != "" {
		p.waitingFor("CreateContainerConfigError", "test/harness/node: "+what)
		return false
	}
	for {
		err := p.tryPrepare()
		if err == nil {
			return true
		}
		p.waitingFor("ContainerCreating", err.Error())
		p.tell("FailedMount", err.Error())
		if !p.rest(look) {
			return false
		}
	}
}

func (p *pod) tryPrepare() (err error) {
	if p.network == nil {
		if p.network, err = p.agent.options.Network.newSandbox(); err != nil {
			return err
		}
		p.nudge()
	}
	return p.syncVolumes()
}

func (p *pod) syncVolumes() error {
	var errs []error
	for _, v := range p.latest.Load().Spec.Volumes {
		errs = append(errs, p.volumes[v.Name].sync(p.ctx, p))
	}
	return errors.Join(errs...)
}

// runContainers returns when no container runs any more, nor is to be started again.
func (p *pod) runContainers() {
	ended := make(chan struct{})
	var watching, running sync.WaitGroup
	watching.Go(func() { p.keepVolumes(ended) })
	for i := range p.containers {
		running.Go(func() { p.runContainer(i) })
	}
	running.Wait()
	close(ended)
	watching.Wait()
}

func (p *pod) keepVolumes(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-time.After(look):
		}
		if err := p.syncVolumes(); err != nil && p.ctx.Err() == nil {
			p.tell("FailedMount", err.Error())
		}
	}
}

// rest says false when the pod is to go.
func (p *pod) rest(d time.Duration) bool {
	select {
	case <-p.deleting:
		return false
	case <-p.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (p *pod) dying() bool {
	select {
	case <-p.deleting:
		return true
	default:
		return p.ctx.Err() != nil
	}
}

// dismantle takes network and files away.
func (p *pod) dismantle() {
	var err error
	if p.network != nil {
		err = p.network.close()
	}
	if err = errors.Join(err, os.RemoveAll(p.dir)); err != nil {
		p.tell("FailedKillPod", err.Error())
	}
}

// remove ends the object, after everything else, as a kubelet does.
func (p *pod) remove() {
	var none int64
	o := metav1.DeleteOptions{GracePeriodSeconds: &none, Preconditions: &metav1.Preconditions{UID: &p.uid}}
	for p.ctx.Err() == nil {
		err := p.agent.client.CoreV1().Pods(p.namespace).Delete(p.agent.ctx, p.name, o) // its own success ends p.ctx
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		select {
		case <-p.ctx.Done():
		case <-time.After(look):
		}
	}
}

// tell sends an Event, once for the same text.
func (p *pod) tell(reason, message string) {
	p.mu.Lock()
	known := p.told[reason+message]
	p.told[reason+message] = true
	p.mu.Unlock()
	if known {
		return
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.name + ".", Namespace: p.namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: p.namespace, Name: p.name, UID: p.uid},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, Count: 1,
		FirstTimestamp: now, LastTimestamp: now, Source: corev1.EventSource{Component: "test/harness/node"},
	}
	_, _ = p.agent.client.CoreV1().Events(p.namespace).Create(p.ctx, event, metav1.CreateOptions{}) // an Event may get lost
}

// processes are those that run, by container.
func (p *pod) processes() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	pids := map[string]int{}
	for i, c := range p.containers {
		if c != nil && !c.ended() {
			pids[p.statuses[i].Name] = c.cmd.Process.Pid
		}
	}
	return pids
}
