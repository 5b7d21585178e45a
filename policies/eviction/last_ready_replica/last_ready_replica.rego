# METADATA
# title: Keep the last ready replicas
# description: |
#   Delays an eviction that would leave fewer than a number of ready pods to the workload. A workload
#   of one replica is held, too: scale it up first. A pod that is not ready may always go, since its
#   eviction takes nothing away. Pods of jobs, static pods and pods without an owner are left alone,
#   and so are pods of a workload that is scaled to zero.
# related_resources:
#   - description: Disruptions, and how to plan for them
#     ref: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
#   - description: Evicting the only replica of a Deployment
#     ref: https://github.com/kubernetes/kubernetes/issues/66811
# custom:
#   id: last_ready_replica
#   enforcement: warn
#   default: true
#   parameters:
#     min_ready:
#       type: integer
#       minimum: 0
#       default: 1
#       description: how many ready pods an eviction must leave
package eviction.last_ready_replica

delay contains {"reason": reason, "detail": detail} if {
	ready := input.owner.ready_replicas
	is_number(ready)
	min_ready := input.parameters.min_ready
	ready <= min_ready
	_counts
	_pod_ready
	reason := $"{_workload} has {ready} ready of {_wanted} wanted pods, and an eviction must leave {min_ready} ready; wait until {min_ready + 1} are ready, or scale it up first"
	detail := {"ready_replicas": ready, "replicas": input.owner.replicas, "min_ready": min_ready}
}

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}"

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
