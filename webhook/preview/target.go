package preview

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/webhook/cluster"
)

// Target finds the pods that are meant by node/NAME, pod/NAMESPACE/NAME or deployment/NAMESPACE/NAME, and notes the node that is drained.
func Target(world *cluster.Snapshot, target string, o *Options) ([]*corev1.Pod, error) {
	kind, name, _ := strings.Cut(target, "/")
	namespace, inner, qualified := strings.Cut(name, "/")
	switch {
	case kind == "node" && name != "" && !qualified:
		if _, ok := world.Node(name); !ok {
			return nil, fmt.Errorf("there is no node %s", name)
		}
		o.Drain = name
		return world.PodsOn(name), nil
	case kind == "pod" && qualified:
		pod, ok := world.Pod(namespace, inner)
		if !ok {
			return nil, fmt.Errorf("there is no pod %s in namespace %s", inner, namespace)
		}
		return []*corev1.Pod{pod}, nil
	case kind == "deployment" && qualified:
		pods, ok := world.PodsOfDeployment(namespace, inner)
		if !ok {
			return nil, fmt.Errorf("there is no deployment %s in namespace %s", inner, namespace)
		}
		return pods, nil
	}
	return nil, fmt.Errorf("invalid target %q: expected node/NAME, pod/NAMESPACE/NAME or deployment/NAMESPACE/NAME", target)
}
