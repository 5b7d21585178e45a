# METADATA
# title: Honour do-not-disrupt annotations
# description: |
#   Holds a pod that asks not to be disrupted, whoever evicts it. It asks by one of these annotations:
#
#   - `karpenter.sh/do-not-disrupt` or `evictgate.dev/do-not-disrupt`: `true`, or a duration such as
#     `4h` or `1h30m` that counts from the pod's start and then ends. `false` asks for nothing.
#   - `cluster-autoscaler.kubernetes.io/safe-to-evict`: `false`.
#   - `descheduler.alpha.kubernetes.io/prefer-no-eviction`, whatever its value, as the descheduler
#     reads it.
#
#   Any other value holds nothing, and a warning says so.
# related_resources:
#   - description: Karpenter's well-known annotations
#     ref: https://karpenter.sh/preview/reference/annotations/
#   - description: Which pods keep the cluster autoscaler from removing a node
#     ref: https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
# custom:
#   id: do_not_disrupt
#   enforcement: enforce
#   default: true
#   parameters:
#     effect:
#       type: string
#       enum: [delay, deny]
#       default: delay
#       description: whether the client tries again later (delay) or gives up (deny)
package eviction.do_not_disrupt

deny contains violation if {
	input.parameters.effect == "deny"
	some violation in _holds
}

delay contains violation if {
	input.parameters.effect == "delay"
	some violation in _holds
}

warn contains _unreadable("karpenter.sh/do-not-disrupt", value, "true, false nor a duration such as 4h") if {
	value := input.pod.metadata.annotations["karpenter.sh/do-not-disrupt"]
	not _readable(value)
}

warn contains _unreadable("evictgate.dev/do-not-disrupt", value, "true, false nor a duration such as 4h") if {
	value := input.pod.metadata.annotations["evictgate.dev/do-not-disrupt"]
	not _readable(value)
}

warn contains _unreadable("cluster-autoscaler.kubernetes.io/safe-to-evict", value, "true nor false") if {
	value := input.pod.metadata.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"]
	not value in {"true", "false"}
}

_holds contains _hold("karpenter.sh/do-not-disrupt", value, until) if {
	value := input.pod.metadata.annotations["karpenter.sh/do-not-disrupt"]
	until := _held_until(value)
}

_holds contains _hold("evictgate.dev/do-not-disrupt", value, until) if {
	value := input.pod.metadata.annotations["evictgate.dev/do-not-disrupt"]
	until := _held_until(value)
}

_holds contains _hold("cluster-autoscaler.kubernetes.io/safe-to-evict", "false", null) if {
	input.pod.metadata.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
}

_holds contains _hold("descheduler.alpha.kubernetes.io/prefer-no-eviction", value, null) if {
	value := input.pod.metadata.annotations["descheduler.alpha.kubernetes.io/prefer-no-eviction"]
}

_hold(annotation, value, until) := {"reason": _reason($"{annotation}={shown}", value), "detail": detail} if {
	shown := substring(value, 0, 40)
	detail := {"annotation": annotation, "value": shown, "until": until}
}

_reason(mark, value) := $"{_workload} is annotated {mark} on its pods; {_cure(value, "their")} to let them be evicted" if {
	_workload
}

_reason(mark, value) := $"the pod is annotated {mark}; {_cure(value, "its")} to let it be evicted" if not _workload

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}" if input.owner.name

_cure(value, whose) := $"wait until {value} after {whose} start, or remove the annotation" if _lasts(value)

_cure(value, _) := "remove the annotation" if not _lasts(value)

_unreadable(annotation, value, expected) := {
	"reason": $"annotation {annotation}={shown} is neither {expected}, so it protects nothing; correct it",
	"detail": {"annotation": annotation, "value": shown},
} if {
	shown := substring(value, 0, 40)
}

# When the protection ends: null when that is not known, undefined when there is none any more.
_held_until("true") := null

_held_until(value) := time.format(end) if {
	_lasts(value)
	end := _started_ns + time.parse_duration_ns(value)
	time.now_ns() < end
}

_held_until(value) := null if {
	_lasts(value)
	not _started_ns
}

_readable(value) if value in {"true", "false"}

_readable(value) if _lasts(value)

# A duration that time.parse_duration_ns takes and that does not overflow.
_lasts(value) if {
	value != ""
	regex.match(`^([0-9]{1,5}(\.[0-9]{1,3})?h)?([0-9]{1,7}(\.[0-9]{1,3})?m)?([0-9]{1,9}(\.[0-9]{1,3})?s)?$`, value)
}

# Time outside of these years cannot be told in nanoseconds.
_started_ns := time.parse_rfc3339_ns(started) if {
	started := input.pod.status.startTime
	is_string(started)
	started > "1970"
	started < "2200"
}
