# METADATA
# title: Keep pods that nothing would recreate
# description: |
#   Denies the eviction of a pod that no controller owns, for example one made by kubectl run: nothing
#   recreates it, so an eviction is its end. kubectl drain asks for --force before it deletes such pods,
#   but other evictors do not ask. An owner that is not the pod's controller does not count. Static pods
#   and their mirrors belong to their node, and are left alone. A pod whose loss does not matter says so by
#   a label or an annotation.
# related_resources:
#   - description: What kubectl drain does with pods that no controller manages
#     ref: https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/
#   - description: Which pods keep the cluster autoscaler from removing a node
#     ref: https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
# custom:
#   id: bare_pod
#   enforcement: enforce
#   parameters:
#     allowed_by:
#       type: array
#       items:
#         type: string
#         minLength: 1
#       default: [evictgate.dev/allow-eviction, cluster-autoscaler.kubernetes.io/safe-to-evict]
#       description: labels and annotations of which one with the value true lets a pod go
package eviction.bare_pod

deny contains {"reason": reason, "detail": {"allowed_by": input.parameters.allowed_by}} if {
	not input.owner.kind
	input.pod.metadata.name
	not input.pod.metadata.annotations["kubernetes.io/config.mirror"]
	not _allowed
	reason := $"the pod has no controller, so nothing recreates it after an eviction; run it by a Deployment or a Job{_mark}, or delete it directly"
}

_allowed if {
	some key in input.parameters.allowed_by
	input.pod.metadata.labels[key] == "true"
}

_allowed if {
	some key in input.parameters.allowed_by
	input.pod.metadata.annotations[key] == "true"
}

_mark := $", set annotation {input.parameters.allowed_by[0]}=true on it" if count(input.parameters.allowed_by) > 0

_mark := "" if count(input.parameters.allowed_by) == 0
