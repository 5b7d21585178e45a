package eviction.node_outage_breaker_test

import data.eviction.node_outage_breaker

_names := ["n1", "n2", "n3", "n4", "n5"]

_with(down, nodes, parameters) := {
	"cluster": {"nodes": nodes, "ready_nodes": nodes - down, "not_ready_nodes": array.slice(_names, 0, down)},
	"node": {"ready": true},
	"parameters": object.union({"not_ready_percent": 10, "min_nodes": 2, "hold_not_ready_nodes": false}, parameters),
}

_on_lost_node(eviction) := object.union(eviction, {"node": {"ready": false}})

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_while_all_nodes_are_ready if {
	node_outage_breaker.delay == set() with input as _with(0, 20, {"not_ready": 1})
}

test_delays_at_percentage if {
	reason := "3 of 20 nodes are not ready (n1, n2, n3), which reaches not_ready_percent of 10, so evictions are held; try again when they are ready, or delete the nodes that are gone"
	detail := {"not_ready": 3, "nodes": 20, "not_ready_nodes": ["n1", "n2", "n3"]}
	node_outage_breaker.delay == {{"reason": reason, "detail": detail}} with input as _with(3, 20, {})
}

test_boundary_of_percentage[name] if {
	some name, case in {
		"at": {"down": 2, "nodes": 20, "held": 1},
		"below": {"down": 2, "nodes": 21, "held": 0},
		"above": {"down": 3, "nodes": 21, "held": 1},
	}
	count(node_outage_breaker.delay) == case.held with input as _with(case.down, case.nodes, {})
}

test_one_node_of_a_small_cluster_does_not_count if {
	node_outage_breaker.delay == set() with input as _with(1, 3, {})
	count(node_outage_breaker.delay) == 1 with input as _with(1, 3, {"min_nodes": 1})
	count(node_outage_breaker.delay) == 1 with input as _with(2, 3, {})
	node_outage_breaker.delay == set() with input as _with(2, 3, {"min_nodes": 3})
}

test_boundary_of_number[down] if {
	some down, held in {2: 0, 3: 1, 4: 1}
	count(node_outage_breaker.delay) == held with input as _with(down, 1000, {"not_ready": 3})
}

test_number_is_named_when_both_trip if {
	some reason in _reasons(node_outage_breaker.delay) with input as _with(3, 20, {"not_ready": 3})
	contains(reason, ", which reaches not_ready of 3, so")
}

test_number_does_not_hide_the_percentage if {
	some reason in _reasons(node_outage_breaker.delay) with input as _with(3, 20, {"not_ready": 4})
	contains(reason, ", which reaches not_ready_percent of 10, so")
}

test_three_names_and_how_many_more if {
	some reason in _reasons(node_outage_breaker.delay) with input as _with(5, 20, {})
	startswith(reason, "5 of 20 nodes are not ready (n1, n2, n3 and 2 more), which")
}

test_pods_of_lost_nodes_may_go if {
	node_outage_breaker.delay == set() with input as _on_lost_node(_with(3, 20, {}))
	count(node_outage_breaker.delay) == 1 with input as _on_lost_node(_with(3, 20, {"hold_not_ready_nodes": true}))
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no cluster": {"cluster": null},
		"node is gone": {"node": null},
		"no nodes": {"cluster": {"nodes": 0, "ready_nodes": 0, "not_ready_nodes": []}},
	}
	eviction := json.patch(_with(3, 20, {}), [{"op": "replace", "path": path, "value": value} | some path, value in parts])
	node_outage_breaker.delay == set() with input as eviction
}
