# METADATA
# title: Keep the quorum of a StatefulSet
# description: |
#   Delays an eviction that would leave fewer ready pods than a majority of those that a StatefulSet wants,
#   since a database that votes stops without one. Two members have no majority to spare, and one has
#   none at all: scale to three. A pod that is not ready has no vote and may always go, whatever the order.
#   With an order, a pod waits while another one that is ready and on a cordoned node has its turn before
#   it. Pods on nodes that nobody drains have no turn, since waiting for them would never end.
# related_resources:
#   - description: StatefulSets, and how their pods are named
#     ref: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
#   - description: Disruption budgets for applications with a quorum
#     ref: https://kubernetes.io/docs/tasks/run-application/configure-pdb/
# custom:
#   id: statefulset_quorum
#   enforcement: enforce
#   parameters:
#     min_ready:
#       type: integer
#       minimum: 0
#       description: how many ready pods an eviction must leave, instead of a majority
#     order:
#       type: string
#       enum: [any, highest_first, lowest_first]
#       default: any
#       description: which ordinal on a cordoned node goes first
#     kinds:
#       type: array
#       minItems: 1
#       items:
#         type: string
#         minLength: 1
#       default: [StatefulSet]
#       description: kinds of workloads whose pods are a quorum
package eviction.statefulset_quorum

delay contains {"reason": reason, "detail": detail} if {
	_covered
	ready := input.owner.ready_replicas
	is_number(ready)
	ready <= _min_ready
	reason := $"{_workload} has {ready} ready of {_members} wanted pods, and an eviction must leave {_min_ready} ready{_why}; {_cure}"
	detail := {"ready_replicas": ready, "replicas": _members, "min_ready": _min_ready}
}

delay contains {"reason": reason, "detail": {"order": order, "turns": turns}} if {
	order := input.parameters.order
	order != "any"
	_covered
	turns := [turn | some turn in _turns; _before(turn[0], _ordinal(input.request.name))]
	count(turns) > 0
	name := turns[_at(turns)][1]
	reason := $"{_workload} moves its pods from cordoned nodes with the {_first} ordinal first; wait until {name} is ready on another node"
}

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}"

_covered if {
	input.owner.kind in input.parameters.kinds
	not input.owner.replicas == 0
	some condition in input.pod.status.conditions
	condition.type == "Ready"
	condition.status == "True"
}

_members := input.owner.replicas if is_number(input.owner.replicas)

# Where the wanted number is not known, the pods that there are.
_members := count(peers) + 1 if {
	not is_number(input.owner.replicas)
	peers := [peer | some peer in input.peers; not peer.phase in {"Failed", "Succeeded"}]
}

_min_ready := input.parameters.min_ready

_min_ready := floor(_members / 2) + 1 if not input.parameters.min_ready

_why := "" if input.parameters.min_ready

_why := " for a quorum" if not input.parameters.min_ready

_cure := $"wait until {_min_ready + 1} are ready" if _min_ready < _members

_cure := $"scale it up to {max([3, _min_ready + 1])} first" if {
	_min_ready >= _members
	not input.parameters.min_ready
}

_cure := $"scale it up to {_min_ready + 1} first" if {
	_min_ready >= _members
	input.parameters.min_ready
}

_first := "highest" if input.parameters.order == "highest_first"

_first := "lowest" if input.parameters.order == "lowest_first"

_before(a, b) if {
	input.parameters.order == "highest_first"
	a > b
}

_before(a, b) if {
	input.parameters.order == "lowest_first"
	a < b
}

# Where the one whose turn it is stands in the sorted turns: it is the same for all that wait.
_at(turns) := count(turns) - 1 if input.parameters.order == "highest_first"

_at(_) := 0 if input.parameters.order == "lowest_first"

# Ordinal and name of the ready peers on cordoned nodes.
_turns := sort([[_ordinal(peer.name), peer.name] |
	some peer in input.peers
	peer.ready
	not peer.terminating
	peer.node_unschedulable
])

_ordinal(name) := to_number(regex.find_all_string_submatch_n(`-(0|[1-9][0-9]{0,9})$`, name, 1)[0][1])
