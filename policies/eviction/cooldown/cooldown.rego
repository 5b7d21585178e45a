# METADATA
# title: Keep evictions of a workload apart
# description: |
#   Delays an eviction for some time after the last one of the same owner, whoever asked for it and
#   wherever the pod ran, so that a workload settles before it loses the next pod. Readiness alone does
#   not tell that caches are warm and data has been moved. A pod without an owner is left alone.
# related_resources:
#   - description: A time between disruptions, as asked of Karpenter
#     ref: https://github.com/aws/karpenter-provider-aws/issues/9087
#   - description: A pause between evictions in two zones in Grafana's rollout-operator
#     ref: https://github.com/grafana/rollout-operator
# custom:
#   id: cooldown
#   enforcement: enforce
#   history_depth: 1
#   parameters:
#     period:
#       type: string
#       pattern: ^([0-9]{1,5}[hms]){1,3}$
#       default: 10m
#       description: the time between two evictions of an owner's pods, for example 90s or 1h30m; at most 24h
package eviction.cooldown

delay contains {"reason": reason, "detail": detail} if {
	last := input.history.owner[0]

	# Between these years a time can be told in nanoseconds; null is not between them.
	last > "1970"
	last < "2200"
	until := time.parse_rfc3339_ns(last) + _period
	time.now_ns() < until
	input.owner.name
	period := input.parameters.period
	reason := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} has lost a pod to an eviction less than {period} ago; try again when that is {period} ago, or lower parameter period"
	detail := {"period": period, "until": time.format(until)}
}

invalid_parameters contains $"a period of {input.parameters.period} keeps nothing apart; give one such as 10m" if _period == 0

invalid_parameters contains $"evictions are remembered for 24h, and a period of {input.parameters.period} is longer; give one up to that" if {
	_period > time.parse_duration_ns("24h")
}

_period := time.parse_duration_ns(input.parameters.period)
