# METADATA
# title: Protect young pods and running jobs
# description: |
#   Delays the eviction of a pod in the first minutes after its start, so that a workload that has just
#   been moved is not moved again at once. The time counts from the pod's start, or from its creation
#   while that is not known. Pods of jobs are protected until they finish, however old they are, since
#   an eviction throws their work away.
# related_resources:
#   - description: The descheduler's minPodAge
#     ref: https://github.com/kubernetes-sigs/descheduler/blob/master/README.md
#   - description: Pod lifecycle
#     ref: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
# custom:
#   id: minimum_age
#   enforcement: enforce
#   parameters:
#     minimum:
#       type: string
#       pattern: ^([0-9]{1,5}[hms]){1,3}$
#       default: 10m
#       description: how long a pod is protected after its start, for example 90s or 1h30m
#     jobs:
#       type: boolean
#       default: true
#       description: whether pods of jobs are protected until they finish
package eviction.minimum_age

delay contains {"reason": reason, "detail": detail} if {
	until := _started + _minimum
	time.now_ns() < until
	not _job
	minimum := input.parameters.minimum
	reason := _reason(minimum)
	detail := {"minimum": minimum, "until": time.format(until)}
}

delay contains {"reason": reason, "detail": {"job": name}} if {
	_job
	name := input.owner.name
	reason := $"{input.owner.kind} {input.request.namespace}/{name} has pods that may not be evicted before they finish; wait until they are done, or set parameter jobs to false"
}

_job if {
	input.owner.kind in {"Job", "CronJob"}
	input.parameters.jobs
}

_minimum := time.parse_duration_ns(input.parameters.minimum)

# Between these years a time can be told in nanoseconds; null is not between them.
_started := time.parse_rfc3339_ns(at) if {
	at := input.pod.status.startTime
	at > "1970"
	at < "2200"
} else := time.parse_rfc3339_ns(at) if {
	at := input.pod.metadata.creationTimestamp
	at > "1970"
	at < "2200"
}

_reason(minimum) := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} has pods younger than {minimum}, which may not be evicted; wait until they are older, or lower parameter minimum" if {
	input.owner.name
}

_reason(minimum) := $"the pod is younger than {minimum} and may not be evicted; wait until it is older, or lower parameter minimum" if {
	not input.owner.name
}
