# METADATA
# title: Keep the last ready replicas
# description: |
#   Delays an eviction that would leave fewer than a number of ready pods to the workload. A workload
#   of one replica is held, too: scale it up first. A pod that is not ready may always go, since its
#   eviction takes nothing away. Pods of jobs, static pods and pods without an owner are left alone,
#   and so are pods of a workload that is scaled to zero.
#
#   Parameters:
#
#   - `min_ready`: how many ready pods an eviction must leave, a whole number; 1 by default.
# related_resources:
#   - description: Disruptions, and how to plan for them
#     ref: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
#   - description: Evicting the only replica of a Deployment
#     ref: https://github.com/kubernetes/kubernetes/issues/66811
# custom:
#   id: last_ready_replica
#   enforcement: warn
#   default: true
package eviction.last_ready_replica

delay contains {"reason": reason, "detail": detail} if {
	ready := input.owner.ready_replicas
	is_number(ready)
	ready <= _min_ready
	_counts
	_pod_ready
	reason := $"{_workload} has {ready} ready of {_wanted} wanted pods, and an eviction must leave {_min_ready} ready; wait until {_min_ready + 1} are ready, or scale it up first"
	detail := {"ready_replicas": ready, "replicas": input.owner.replicas, "min_ready": _min_ready}
}

warn contains {"reason": reason, "detail": {"parameter": "min_ready"}} if {
	min_ready := input.parameters.min_ready
	not _whole(min_ready)
	reason := "parameter min_ready is not a whole number, so last_ready_replica keeps 1 ready pod; correct it"
}

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}"

default _min_ready := 1

_min_ready := min_ready if {
	min_ready := input.parameters.min_ready
	_whole(min_ready)
}

_whole(x) if {
	is_number(x)
	x == floor(x)
	x >= 0
}

_counts if {
	not input.owner.kind in {"Job", "CronJob", "Node"}
	not input.owner.replicas == 0
}

_pod_ready if {
	some condition in input.pod.status.conditions
	condition.type == "Ready"
	condition.status == "True"
}

default _wanted := "an unknown number of"

_wanted := input.owner.replicas if is_number(input.owner.replicas)
