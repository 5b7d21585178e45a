# METADATA
# title: Limit the rate of evictions
# description: |
#   Delays an eviction when as many pods as a limit allows have been evicted within its period: of the
#   same owner, from the same node, in the same namespace or zone, or in the whole cluster. Each limit
#   counts by itself. What counts is what happened, whoever asked for it, and what was admitted and may still
#   happen; a pod without an owner is not counted per owner.
# related_resources:
#   - description: The descheduler's limits of evictions per node, namespace and run
#     ref: https://github.com/kubernetes-sigs/descheduler/blob/master/README.md
#   - description: A rate limit for the VPA updater
#     ref: https://github.com/kubernetes/autoscaler/pull/2326
# custom:
#   id: rate_limit
#   enforcement: enforce
#   required: [limits]
#   history_depth: limits
#   parameters:
#     limits:
#       type: array
#       minItems: 1
#       examples:
#         - [{per: node, max: 2, period: 10m}, {per: cluster, max: 100, period: 10m}]
#         - [{per: owner, max: 1, period: 90s}]
#         - [{per: namespace, max: 200, period: 24h}, {per: zone, max: 3, period: 1h30m}]
#       description: how many evictions are allowed; each limit holds by itself
#       items:
#         type: object
#         additionalProperties: false
#         required: [per, max, period]
#         properties:
#           per:
#             type: string
#             enum: [owner, node, namespace, zone, cluster]
#             description: which evictions are counted together
#           max:
#             type: integer
#             minimum: 1
#             maximum: 200
#             description: how many evictions are allowed in the period; no more than 200 are remembered, so give a shorter period instead, such as 100 in 10m for 600 in 1h
#           period:
#             type: string
#             pattern: ^([0-9]{1,5}[hms]){1,3}$
#             description: how far back evictions count, for example 90s or 1h30m; at most 24h
package eviction.rate_limit

delay contains {"reason": reason, "detail": detail} if {
	some limit in _limits

	# The newest stands first, so that this is the one that must leave the period.
	at := _past[limit.per][limit.last]

	# Between these years a time can be told in nanoseconds; null is not between them.
	at > "1970"
	at < "2200"
	until := time.parse_rfc3339_ns(at) + limit.ns
	time.now_ns() < until
	subject := _subject(limit.per)
	reason := $"{subject} has had all evictions that the limit of {limit.max} per {limit.per} in {limit.period} allows; try again when the oldest of them is {limit.period} ago, or raise the limit"
	detail := {"per": limit.per, "max": limit.max, "period": limit.period, "until": time.format(until)}
}

invalid_parameters contains $"limit {i + 1} has a period of {limit.period}, in which nothing happens; give one such as 10m" if {
	some i, limit in input.parameters.limits
	time.parse_duration_ns(limit.period) == 0
}

invalid_parameters contains $"limit {i + 1} has a period of {limit.period}, but evictions are remembered for 24h; give a period up to that" if {
	some i, limit in input.parameters.limits
	time.parse_duration_ns(limit.period) > time.parse_duration_ns("24h")
}

_limits := [object.union(limit, {"last": limit.max - 1, "ns": time.parse_duration_ns(limit.period)}) |
	some limit in input.parameters.limits
]

# List by list: input.history[limit.per] would read the holds, too.
_past := {
	"owner": input.history.owner,
	"node": input.history.node,
	"namespace": input.history.namespace,
	"zone": input.history.zone,
	"cluster": input.history.cluster,
}

_subject("owner") := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}" if input.owner.name

_subject("node") := "the pod's node"

_subject("namespace") := $"namespace {input.request.namespace}"

_subject("zone") := "the zone of the pod's node"

_subject("cluster") := "the cluster"
