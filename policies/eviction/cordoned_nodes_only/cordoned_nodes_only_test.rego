package eviction.cordoned_nodes_only_test

import data.eviction.cordoned_nodes_only as policy

_with(evictor, node) := {
	"request": {"namespace": "shop", "evictor": evictor},
	"node": object.union({"name": "node-1", "unschedulable": false, "taints": []}, node),
	"parameters": {
		"evictors": ["descheduler", "karpenter"],
		"taints": ["karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"],
	},
}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

test_denies_on_a_node_that_nobody_drains if {
	reason := "descheduler may evict pods from nodes being drained only, and this node is neither cordoned nor marked for removal; cordon it first"
	detail := {"node": "node-1", "taints": ["karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"]}
	policy.deny == {{"reason": reason, "detail": detail}} with input as _with("descheduler", {})
}

test_admits_on_a_cordoned_node if {
	policy.deny == set() with input as _with("descheduler", {"unschedulable": true})
}

test_admits_on_a_node_marked_for_removal[key] if {
	some key in ["karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"]
	taints := [{"key": "gpu", "effect": "NoSchedule"}, {"key": key, "effect": "NoSchedule"}]
	policy.deny == set() with input as _with("karpenter", {"taints": taints})
}

test_other_taints_do_not_count[key] if {
	some key in ["gpu", "karpenter.sh/disrupted-not", "node.kubernetes.io/not-ready", ""]
	count(policy.deny) == 1 with input as _with("karpenter", {"taints": [{"key": key, "effect": "NoSchedule"}]})
}

test_admits_other_evictors[evictor] if {
	some evictor in ["user", "kured", "", "karpenter-x"]
	policy.deny == set() with input as _with(evictor, {})
}

test_people_by_parameter if {
	count(policy.deny) == 1 with input as _changed(_with("user", {}), {"/parameters/evictors": ["user"]})
	policy.deny == set() with input as _changed(_with("karpenter", {}), {"/parameters/evictors": []})
}

test_boundary_is_cordon_or_taint if {
	both := {"unschedulable": true, "taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}
	policy.deny == set() with input as _with("karpenter", both)
	eviction := _changed(_with("karpenter", both), {"/parameters/taints": []})
	policy.deny == set() with input as eviction
	count(policy.deny) == 1 with input as _changed(eviction, {"/node/unschedulable": false})
}

test_admits_when_the_node_is_gone if {
	policy.deny == set() with input as _changed(_with("descheduler", {}), {"/node": null})
}

test_optional_parts_missing if {
	count(policy.deny) == 1 with input as _with("descheduler", {"taints": null})
}
