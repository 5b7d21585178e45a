# METADATA
# title: Evict a gang of pods together or not at all
# description: |
#   Pods that share a group label, such as the workers of a distributed training job or the group of a
#   LeaderWorkerSet, are one unit: without one of them the others compute for nothing. While the unit is
#   whole, none of its pods may go, unless the nodes of all of them are cordoned: then the unit moves as a
#   whole. A unit that has lost a pod already (one is terminating, failed or missing) is broken, and its
#   other pods may go. Pods that have succeeded, or wait for a node, do not break it. A unit of which one
#   pod is left is left alone. The first of the labels that a pod has names its unit. How many pods a unit
#   should have is known from the pod's owner, and from annotations that tell the number.
# related_resources:
#   - description: Keep the pods of a distributed training job together
#     ref: https://github.com/kubeflow/trainer/issues/3304
#   - description: Pod groups of the scheduler plugins
#     ref: https://github.com/kubernetes-sigs/scheduler-plugins/tree/master/pkg/coscheduling
#   - description: Groups of a LeaderWorkerSet
#     ref: https://lws.sigs.k8s.io/docs/overview/
# custom:
#   id: gang
#   enforcement: enforce
#   neighbours_by: labels
#   parameters:
#     labels:
#       type: array
#       minItems: 1
#       items:
#         type: string
#         minLength: 1
#       default:
#         - evictgate.dev/gang
#         - leaderworkerset.sigs.k8s.io/group-key
#         - kueue.x-k8s.io/pod-group-name
#         - scheduling.x-k8s.io/pod-group
#         - pod-group.scheduling.sigs.k8s.io
#         - pod-group.scheduling.sigs.k8s.io/name
#         - jobset.sigs.k8s.io/jobset-name
#         - training.kubeflow.org/job-name
#         - volcano.sh/job-name
#       description: labels whose value names the unit of a pod
#     size_annotations:
#       type: object
#       additionalProperties:
#         type: string
#         minLength: 1
#       default:
#         evictgate.dev/gang: evictgate.dev/gang-size
#         leaderworkerset.sigs.k8s.io/group-key: leaderworkerset.sigs.k8s.io/size
#         kueue.x-k8s.io/pod-group-name: kueue.x-k8s.io/pod-group-total-count
#       description: by label, the annotation of a pod that tells how many pods its unit has
#     cordoned_together:
#       type: boolean
#       default: true
#       description: whether a unit may go when the nodes of all its pods are cordoned
package eviction.gang

delay contains {"reason": reason, "detail": detail} if {
	unit := _unit
	members := [neighbour | some neighbour in input.neighbours; neighbour.labels[unit.label] == unit.value]
	alive := [member | some member in members; _alive(member)]
	count(alive) > 0
	not _broken(members)
	nodes := _nodes_in_use(alive)
	count(nodes) > 0
	reason := $"the {count(alive) + 1} pods of unit {unit.label}={unit.value} in namespace {input.request.namespace} go together or not at all; {_cure}"
	detail := {"label": unit.label, "value": unit.value, "pods": count(alive) + 1, "nodes": nodes}
}

_unit := [{"label": label, "value": value} |
	some label in input.parameters.labels
	value := input.pod.metadata.labels[label]
	value != ""
][0]

_alive(member) if {
	not member.phase in {"Failed", "Succeeded"}
	not member.terminating
}

_broken(members) if {
	some member in members
	member.terminating
	member.phase != "Succeeded"
}

# Controllers leave failed pods behind whose place another has taken. Of the pod's own owner it is known
# whether a pod is missing; a failed pod of another one breaks the unit.
_broken(members) if {
	some member in members
	member.phase == "Failed"
	not member.name in {peer.name | some peer in input.peers}
}

_broken(_) if {
	done := [peer | some peer in input.peers; peer.phase == "Succeeded"]
	input.owner.missing_replicas > count(done)
}

_broken(members) if {
	size := input.pod.metadata.annotations[input.parameters.size_annotations[_unit.label]]
	regex.match(`^[1-9][0-9]{0,8}$`, size)
	whole := [member | some member in members; member.phase != "Failed"]
	count(whole) + 1 < to_number(size)
}

# The nodes that keep the unit where it is: those that are not cordoned, or all of them when that does
# not matter.
_nodes_in_use(alive) := {member.node | some member in alive; _stays(member)} | _own_node

_stays(member) if {
	member.node != ""
	not _may_go(member.node_unschedulable)
}

_own_node := {node | node := input.pod.spec.nodeName; not _may_go(_cordoned)}

default _cordoned := false

_cordoned := input.node.unschedulable

_may_go(cordoned) if {
	cordoned
	input.parameters.cordoned_together
}

_cure := "cordon the nodes of all of them, or wait until their work is done" if input.parameters.cordoned_together

_cure := "wait until their work is done" if not input.parameters.cordoned_together
