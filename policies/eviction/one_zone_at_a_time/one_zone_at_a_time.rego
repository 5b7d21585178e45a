# METADATA
# title: Disrupt one zone at a time
# description: |
#   Lets many pods of a workload be evicted at once as long as they are in one zone, and delays the
#   others until all pods of the first zone are ready again. A budget cannot say that: it makes large
#   workloads that are replicated over zones move one pod after the other. A pod counts as disrupted while
#   it is not ready or terminating. A wanted pod that does not exist yet, or is not on a node yet, may
#   come back in any zone, so it holds every zone by default. A pod whose own zone is not known (its node
#   is gone, or has no label topology.kubernetes.io/zone) may go only while nothing of the workload is
#   disrupted: without zones the workload moves one pod at a time. A pod that is not ready may always go.
#   Pods of jobs and DaemonSets, static pods and pods without an owner are left alone, and so are pods of
#   a workload that is scaled to zero.
# related_resources:
#   - description: Budgets that allow disruptions of one zone
#     ref: https://github.com/kubernetes/kubernetes/issues/104583
#   - description: A budget for each zone
#     ref: https://github.com/grafana/rollout-operator/issues/194
#   - description: Replacements that do not exist yet must count
#     ref: https://github.com/aws/zone-aware-controllers-for-k8s/issues/28
# custom:
#   id: one_zone_at_a_time
#   enforcement: enforce
#   parameters:
#     missing:
#       type: string
#       enum: [hold, ignore]
#       default: hold
#       description: whether wanted pods that do not exist or are not on a node yet hold every zone
#     max_disrupted:
#       type: integer
#       minimum: 0
#       default: 0
#       description: how many pods of the workload may be disrupted in the one zone at once; 0 is any number
package eviction.one_zone_at_a_time

delay contains {"reason": reason, "detail": detail} if {
	_counts
	_elsewhere
	_pod_ready
	reason := $"{_workload} has disrupted pods ({_places}), and only one zone may be disrupted at a time; wait until they are ready"
	detail := {"zone": _zone, "disrupted": _disrupted, "missing": _missing}
}

delay contains {"reason": reason, "detail": detail} if {
	limit := input.parameters.max_disrupted
	limit > 0
	_counts
	count(_disrupted[_zone]) >= limit
	not _elsewhere
	_pod_ready
	reason := $"{_workload} has disrupted pods ({_places}), and at most {limit} may be disrupted at once; wait until they are ready"
	detail := {"zone": _zone, "disrupted": _disrupted, "missing": _missing}
}

_workload := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}"

_counts if {
	kind := input.owner.kind
	not kind in {"CronJob", "DaemonSet", "Job", "Node"}
	not input.owner.replicas == 0
}

_elsewhere if {
	some zone, _ in _disrupted
	not _pods_own(zone)
}

_elsewhere if _missing > 0

_pods_own(zone) if {
	zone == _zone
	zone != ""
}

default _zone := ""

_zone := input.node.labels["topology.kubernetes.io/zone"]

# The names of the disrupted pods by their zone; by "" when that is not known.
_disrupted[zone] contains peer.name if {
	some peer in input.peers
	not _serves(peer)
	not peer.phase in {"Failed", "Succeeded"}
	not _ignored(peer)
	zone := peer.zone
}

_serves(peer) if {
	peer.ready
	not peer.terminating
}

_ignored(peer) if {
	peer.node == ""
	input.parameters.missing == "ignore"
}

default _missing := 0

# Terminating pods are missing, too, but their zone is known.
_missing := input.owner.missing_replicas - count(terminating) if {
	input.parameters.missing == "hold"
	input.owner.missing_replicas > 0
	terminating := [peer | some peer in input.peers; peer.terminating]
	input.owner.missing_replicas > count(terminating)
}

_places := concat(", ", array.concat(zones, missing)) if {
	zones := [$"{_shown(zone)}: {count(names)}" | some zone, names in _disrupted]
	missing := [$"not created yet: {n}" | n := _missing; n > 0]
}

_shown(zone) := $"zone {zone}" if zone != ""

_shown("") := "zone not known"

_pod_ready if {
	some condition in input.pod.status.conditions
	condition.type == "Ready"
	condition.status == "True"
}
