package cluster

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies"
)

// maxNotReadyNodes bounds the names in Cluster.NotReadyNodes.
const maxNotReadyNodes = 10

// clusterState sums up the nodes.
func (s *Store) clusterState() *policies.Cluster {
	down := s.nodesByReady(nodeNotReady)
	ready := s.nodesByReady(nodeReady)
	slices.Sort(down)
	return &policies.Cluster{
		Nodes: int32(len(ready) + len(down)), ReadyNodes: int32(len(ready)), //nolint:gosec // no cluster has 2^31 nodes
		NotReadyNodes: down[:min(len(down), maxNotReadyNodes)],
	}
}

func (s *Store) nodesByReady(value string) []string {
	names, err := s.nodes.IndexKeys(byReady, value)
	if err != nil {
		return nil
	}
	return names
}

// The values of the index byReady.
const nodeReady, nodeNotReady = "true", "false"

// nodeReadiness indexes a node by its Ready condition.
func nodeReadiness(obj any) ([]string, error) {
	if node, ok := obj.(*corev1.Node); ok && isReady(node) {
		return []string{nodeReady}, nil
	}
	return []string{nodeNotReady}, nil
}

func isReady(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// neighbours lists the other pods of the pod's namespace, as far as they are of interest.
func (g *Gatherer) neighbours(in *policies.Input, by policies.NeighbourLabels) []policies.Neighbour {
	if !haveNeighbours(in.Pod, by) {
		return nil
	}
	objs, err := g.pods.ByIndex(byNamespace, in.Pod.Namespace)
	if err != nil {
		return nil
	}
	list := make([]policies.Neighbour, 0, len(objs))
	for _, obj := range objs {
		pod, ok := obj.(*corev1.Pod)
		if ok && pod.Name != in.Pod.Name && by.Share(in.Pod.Labels, pod.Labels) {
			list = append(list, policies.Neighbour{Peer: g.peer(pod, g.leaves(pod, in)), Labels: pod.Labels})
		}
	}
	slices.SortFunc(list, func(a, b policies.Neighbour) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// haveNeighbours reports whether any pod could be a neighbour of interest.
func haveNeighbours(pod *corev1.Pod, by policies.NeighbourLabels) bool {
	return by.Share(pod.Labels, pod.Labels)
}

// claims lists the persistent volume claims that the pod mounts; an ephemeral volume's claim is named
// after pod and volume.
func (s *Store) claims(pod *corev1.Pod) []policies.Claim {
	var list []policies.Claim
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			list = append(list, s.claim(pod.Namespace, v.PersistentVolumeClaim.ClaimName))
		case v.Ephemeral != nil:
			list = append(list, s.claim(pod.Namespace, pod.Name+"-"+v.Name))
		}
	}
	return list
}

func (s *Store) claim(namespace, name string) policies.Claim {
	c := policies.Claim{Name: name}
	claim, ok := get[*corev1.PersistentVolumeClaim](s.volumeClaims, namespace, name)
	if !ok {
		return c
	}
	c.Volume = claim.Spec.VolumeName
	if class := claim.Spec.StorageClassName; class != nil {
		c.StorageClass = *class
	}
	if volume, ok := get[*corev1.PersistentVolume](s.volumes, "", c.Volume); ok {
		c.NodeLocal = nodeLocal(volume)
	}
	return c
}

// nodeLocal reports whether a volume can be used on one node only. Drivers for local disks, such as
// TopoLVM, say so by a node affinity on the host name.
func nodeLocal(v *corev1.PersistentVolume) bool {
	if v.Spec.Local != nil || v.Spec.HostPath != nil {
		return true
	}
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false
	}
	return slices.ContainsFunc(v.Spec.NodeAffinity.Required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(t.MatchExpressions, namesHost) || slices.ContainsFunc(t.MatchFields, namesHost)
	})
}

// namesHost reports whether a requirement names nodes one by one. Drivers have their own labels for
// that, such as topology.topolvm.io/node.
func namesHost(r corev1.NodeSelectorRequirement) bool {
	if r.Operator != corev1.NodeSelectorOpIn || len(r.Values) != 1 {
		return false
	}
	return r.Key == corev1.LabelHostname || r.Key == "metadata.name" || r.Key == "topology.topolvm.io/node"
}
