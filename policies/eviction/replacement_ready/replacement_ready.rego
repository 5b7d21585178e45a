# METADATA
# title: Have the replacement ready first
# description: |
#   Delays the eviction of a ready pod until its workload has more ready pods than it needs, so that the
#   replacement serves before the old pod goes. A workload needs as many pods as its replicas say, or as
#   the annotation evictgate.dev/wanted-replicas on its pods says. Without the annotation the spare pod
#   comes from a rollout with maxSurge (kubectl rollout restart), which moves the pods off a cordoned
#   node by itself; scaling up also raises what the replicas say. With it, scale the workload up by one
#   until its pods have moved. A pod that is not ready may always go. Pods of jobs and DaemonSets, static
#   pods, pods without an owner and pods of a workload that is scaled to zero are left alone.
# related_resources:
#   - description: Evictions that surge instead of killing first
#     ref: https://github.com/kubernetes/kubernetes/issues/140599
#   - description: Eviction should be able to start new pods
#     ref: https://github.com/kubernetes/kubernetes/issues/66811
# custom:
#   id: replacement_ready
#   enforcement: enforce
#   parameters:
#     max_replicas:
#       type: integer
#       minimum: 0
#       default: 0
#       description: leave workloads that need more pods than this alone; 0 leaves none alone
#     wanted_annotation:
#       type: string
#       minLength: 1
#       default: evictgate.dev/wanted-replicas
#       description: the annotation of a pod that tells how many pods its workload needs
package eviction.replacement_ready

delay contains {"reason": reason, "detail": detail} if {
	ready := input.owner.ready_replicas
	is_number(ready)
	_counts
	needed := _needed
	needed > 0
	ready <= needed
	_limited(needed)
	_pod_ready
	reason := $"{_workload} has {ready} ready of {needed} needed pods, and an eviction waits until one more is ready; {_cure}"
	detail := {"ready_replicas": ready, "needed": needed, "replicas": input.owner.replicas}
}

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}"

_counts if {
	kind := input.owner.kind
	not kind in {"CronJob", "DaemonSet", "Job", "Node"}
}

_needed := _annotated

_needed := input.owner.replicas if {
	not _annotated
	is_number(input.owner.replicas)
}

_annotated := to_number(text) if {
	text := input.pod.metadata.annotations[input.parameters.wanted_annotation]
	regex.match(`^(0|[1-9][0-9]{0,8})$`, text)
}

_limited(needed) if needed <= input.parameters.max_replicas

_limited(_) if input.parameters.max_replicas == 0

_pod_ready if {
	some condition in input.pod.status.conditions
	condition.type == "Ready"
	condition.status == "True"
}

_cure := $"scale it up to {_annotated + 1} until its pods have moved" if _annotated > 0

_cure := "run kubectl rollout restart, whose surge moves its pods off cordoned nodes" if {
	not _annotated
	input.owner.kind == "Deployment"
}

_cure := $"annotate its pods {input.parameters.wanted_annotation}={_needed} and scale it up to {_needed + 1} until they have moved" if {
	not _annotated
	input.owner.kind != "Deployment"
}
