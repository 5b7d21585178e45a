# METADATA
# title: Stop evictions while many nodes are down
# description: |
#   Delays evictions while too many nodes of the cluster are not ready, as after a failed update or the
#   loss of a network: what still runs should be left where it is. A number of nodes or a percentage
#   trips it. Pods on nodes that are not ready themselves may go, so that lost nodes can be drained and
#   replaced; hold them, too, when a node that has lost its network only may go on working for you.
# related_resources:
#   - description: Rate limits on eviction by the node controller
#     ref: https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction
#   - description: Budgets while many nodes are lost at once
#     ref: https://github.com/openkruise/kruise/issues/1469
# custom:
#   id: node_outage_breaker
#   enforcement: enforce
#   parameters:
#     not_ready:
#       type: integer
#       minimum: 1
#       description: the number of nodes not ready that stops evictions; none by default
#     not_ready_percent:
#       type: integer
#       minimum: 1
#       maximum: 100
#       default: 10
#       description: the percentage of nodes not ready that stops evictions
#     min_nodes:
#       type: integer
#       minimum: 1
#       default: 2
#       description: how many nodes must be not ready for the percentage to count
#     hold_not_ready_nodes:
#       type: boolean
#       default: false
#       description: whether pods on nodes that are not ready are held, too
package eviction.node_outage_breaker

delay contains {"reason": reason, "detail": detail} if {
	limit := _limit
	_held
	nodes := input.cluster.nodes
	reason := $"{_down} of {nodes} nodes are not ready ({_names}), which reaches {limit}, so evictions are held; try again when they are ready, or delete the nodes that are gone"
	detail := {"not_ready": _down, "nodes": nodes, "not_ready_nodes": input.cluster.not_ready_nodes}
}

_down := input.cluster.nodes - input.cluster.ready_nodes

_limit := $"not_ready of {input.parameters.not_ready}" if {
	_down >= input.parameters.not_ready
} else := $"not_ready_percent of {input.parameters.not_ready_percent}" if {
	_down >= input.parameters.min_nodes
	_down * 100 >= input.cluster.nodes * input.parameters.not_ready_percent
}

_held if input.node.ready

_held if input.parameters.hold_not_ready_nodes

_names := concat(", ", input.cluster.not_ready_nodes) if _down <= 3

_names := $"{concat(", ", array.slice(input.cluster.not_ready_nodes, 0, 3))} and {_down - 3} more" if _down > 3
