# METADATA
# title: Let long sessions end first
# description: |
#   Delays the eviction of a pod that says by an annotation that it runs a session which cannot be
#   resumed, such as a terminal that somebody uses or a CI job. The value is true, or a duration such as 4h
#   or 1h30m that counts from the pod's start; false, or no annotation, means that there is no session. No
#   session is protected longer than a maximum after the pod's start, so that none keeps a node for ever.
#   Any other value protects nothing, and a warning says so.
# related_resources:
#   - description: Long jobs that must finish on nodes that should be removed
#     ref: https://github.com/aws/karpenter-provider-aws/issues/7299
#   - description: Protect pods in which somebody has logged in
#     ref: https://github.com/cybozu-go/login-protector
# custom:
#   id: long_session
#   enforcement: enforce
#   parameters:
#     annotations:
#       type: array
#       minItems: 1
#       items:
#         type: string
#         minLength: 1
#       default: [evictgate.dev/session]
#       description: annotations of a pod of which one says that it runs a session
#     max:
#       type: string
#       minLength: 1
#       pattern: ^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$
#       default: 8h
#       description: the longest protection of a session, as a duration from the pod's start such as 8h
package eviction.long_session

delay contains {"reason": reason, "detail": detail} if {
	some annotation in input.parameters.annotations
	value := input.pod.metadata.annotations[annotation]
	limit := _limit(value)
	until := _protected_until(limit)
	reason := $"{_subject} a session ({annotation}={value}), protected for at most {limit} from the pod's start; wait until it has ended, or remove the annotation"
	detail := {"annotation": annotation, "value": value, "until": until}
}

warn contains {"reason": reason, "detail": {"annotation": annotation, "value": shown}} if {
	some annotation in input.parameters.annotations
	value := input.pod.metadata.annotations[annotation]
	value != "false"
	not _limit(value)
	shown := substring(value, 0, 40)
	reason := $"annotation {annotation}={shown} is neither true, false nor a duration such as 4h, so it protects nothing; correct it"
}

default _subject := "the pod runs"

_subject := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} runs" if input.owner.name

# How long a session of that value is protected, as a duration.
_limit("true") := input.parameters.max

_limit(value) := value if {
	_lasts(value)
	time.parse_duration_ns(value) <= time.parse_duration_ns(input.parameters.max)
}

_limit(value) := input.parameters.max if {
	_lasts(value)
	time.parse_duration_ns(value) > time.parse_duration_ns(input.parameters.max)
}

# A duration that time.parse_duration_ns takes and that does not overflow.
_lasts(value) if {
	value != ""
	regex.match(`^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$`, value)
}

# When the protection ends: null when the pod's start is not known, undefined when it has ended.
_protected_until(limit) := time.format(end) if {
	end := _started_ns + time.parse_duration_ns(limit)
	time.now_ns() < end
}

_protected_until(_) := null if not _started_ns

# Time outside of these years cannot be told in nanoseconds.
_started_ns := time.parse_rfc3339_ns(started) if {
	started := input.pod.status.startTime
	is_string(started)
	started > "1970"
	started < "2200"
}
