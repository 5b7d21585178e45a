package callers

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotation is what the pods of a Deployment have whose version knows secret paths.
const Annotation = "evictgate.dev/secret-path"

// Labels of our pods, as the Service selects them.
const (
	nameLabel, componentLabel = "app.kubernetes.io/name", "app.kubernetes.io/component"
	ourName, ourComponent     = "evictgate", "webhook"
)

// Replicas follow our own pods, to find those that do not know secret paths. The zero value has seen none. It is
// safe for concurrent use.
type Replicas struct {
	// Namespace is that of the installation.
	Namespace string
	// Look is called when there is something new to say.
	Look func()

	mu    sync.Mutex
	older map[types.UID]string
}

// Changed takes the present state of any pod.
func (r *Replicas) Changed(pod *corev1.Pod) {
	over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	r.set(pod, r.ours(pod) && !over && pod.Annotations[Annotation] != "true")
}

// Removed takes a pod that is not there any more.
func (r *Replicas) Removed(pod *corev1.Pod, _ bool) { r.set(pod, false) }

func (r *Replicas) ours(pod *corev1.Pod) bool {
	return pod.Namespace == r.Namespace && pod.Labels[nameLabel] == ourName && pod.Labels[componentLabel] == ourComponent
}

func (r *Replicas) set(pod *corev1.Pod, older bool) {
	r.mu.Lock()
	_, was := r.older[pod.UID]
	switch {
	case older && r.older == nil:
		r.older = map[types.UID]string{pod.UID: pod.Name}
	case older:
		r.older[pod.UID] = pod.Name
	default:
		delete(r.older, pod.UID)
	}
	r.mu.Unlock()
	if was != older && r.Look != nil {
		r.Look()
	}
}

// Older says which pod knows no secret path, and how that ends; empty when there is none.
func (r *Replicas) Older() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := ""
	for _, name := range r.older {
		if first == "" || name < first {
			first = name
		}
	}
	if first == "" {
		return ""
	}
	return fmt.Sprintf("pod %s/%s is of a version that knows no secret path, or its template lacks the annotation %s=true: it goes on when that pod is gone", r.Namespace, first, Annotation)
}
