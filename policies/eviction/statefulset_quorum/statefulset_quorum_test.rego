package eviction.statefulset_quorum_test

import data.eviction.statefulset_quorum as policy

_with(replicas, ready) := {
	"request": {"namespace": "shop", "name": "db-1"},
	"pod": {"status": {"conditions": [
		{"type": "PodScheduled", "status": "True"},
		{"type": "Ready", "status": "True"},
	]}},
	"owner": {"kind": "StatefulSet", "name": "db", "replicas": replicas, "ready_replicas": ready},
	"peers": [],
	"parameters": {"order": "any", "kinds": ["StatefulSet"]},
}

_ordered(order, name, cordoned) := _changed(_with(5, 5), {
	"/parameters/order": order,
	"/request/name": name,
	"/peers": [object.union(_peer(other), {"node_unschedulable": other in cordoned}) |
		some other in ["db-0", "db-1", "db-2", "db-10"]
		other != name
	],
})

_peer(name) := {"name": name, "node_unschedulable": false, "ready": true, "phase": "Running", "terminating": false}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_while_a_majority_stays if {
	policy.delay == set() with input as _with(3, 3)
}

test_delays_when_the_majority_would_be_lost if {
	reason := "StatefulSet shop/db has 2 ready of 3 wanted pods, and an eviction must leave 2 ready for a quorum; wait until 3 are ready"
	detail := {"ready_replicas": 2, "replicas": 3, "min_ready": 2}
	policy.delay == {{"reason": reason, "detail": detail}} with input as _with(3, 2)
}

test_boundary_of_the_majority[replicas] if {
	some replicas, majority in {3: 2, 4: 3, 5: 3, 6: 4, 7: 4}
	policy.delay == set() with input as _with(replicas, majority + 1)
	count(policy.delay) == 1 with input as _with(replicas, majority)
}

test_one_and_two_members_have_none_to_spare if {
	single := "StatefulSet shop/db has 1 ready of 1 wanted pods, and an eviction must leave 1 ready for a quorum; scale it up to 3 first"
	_reasons(policy.delay) == {single} with input as _with(1, 1)
	pair := "StatefulSet shop/db has 2 ready of 2 wanted pods, and an eviction must leave 2 ready for a quorum; scale it up to 3 first"
	_reasons(policy.delay) == {pair} with input as _with(2, 2)
}

test_boundary_of_min_ready if {
	policy.delay == set() with input as _changed(_with(5, 5), {"/parameters/min_ready": 4})
	reason := "StatefulSet shop/db has 4 ready of 5 wanted pods, and an eviction must leave 4 ready; wait until 5 are ready"
	_reasons(policy.delay) == {reason} with input as _changed(_with(5, 4), {"/parameters/min_ready": 4})
	many := "StatefulSet shop/db has 5 ready of 5 wanted pods, and an eviction must leave 5 ready; scale it up to 6 first"
	_reasons(policy.delay) == {many} with input as _changed(_with(5, 5), {"/parameters/min_ready": 5})
}

test_min_ready_of_zero_holds_nothing if {
	policy.delay == set() with input as _changed(_with(1, 1), {"/parameters/min_ready": 0})
}

test_admits_pod_that_is_not_ready[status] if {
	some status in ["False", "Unknown"]
	conditions := [{"type": "Ready", "status": status}]
	policy.delay == set() with input as _changed(_with(3, 2), {"/pod/status/conditions": conditions})
	policy.delay == set() with input as _changed(_ordered("highest_first", "db-1", ["db-2"]), {"/pod/status/conditions": conditions})
}

test_highest_ordinal_on_a_cordoned_node_goes_first if {
	reason := "StatefulSet shop/db moves its pods from cordoned nodes with the highest ordinal first; wait until db-10 is ready on another node"
	cordoned := ["db-0", "db-2", "db-10"]
	every name in ["db-0", "db-2"] {
		_reasons(policy.delay) == {reason} with input as _ordered("highest_first", name, cordoned)
	}
	policy.delay == set() with input as _ordered("highest_first", "db-10", cordoned)
}

test_lowest_ordinal_on_a_cordoned_node_goes_first if {
	reason := "StatefulSet shop/db moves its pods from cordoned nodes with the lowest ordinal first; wait until db-0 is ready on another node"
	detail := {"order": "lowest_first", "turns": [[0, "db-0"], [2, "db-2"]]}
	cordoned := ["db-0", "db-2", "db-10"]
	policy.delay == {{"reason": reason, "detail": detail}} with input as _ordered("lowest_first", "db-10", cordoned)
	policy.delay == set() with input as _ordered("lowest_first", "db-0", cordoned)
}

test_pods_on_other_nodes_have_no_turn if {
	policy.delay == set() with input as _ordered("highest_first", "db-0", ["db-0"])
	policy.delay == set() with input as _ordered("any", "db-0", ["db-0", "db-2"])
}

test_disrupted_pods_have_no_turn[name] if {
	some name, change in {"not ready": {"ready": false}, "terminating": {"terminating": true}}
	peers := [object.union(_peer("db-2"), object.union({"node_unschedulable": true}, change))]
	policy.delay == set() with input as _changed(_ordered("highest_first", "db-0", ["db-0", "db-2"]), {"/peers": peers})
}

test_names_without_ordinal_have_no_order[name] if {
	some name in ["db", "db-", "db-x", "db-01", "db-99999999999", ""]
	policy.delay == set() with input as _changed(_ordered("highest_first", "db-0", ["db-2"]), {"/request/name": name})
}

test_order_and_quorum_are_both_told if {
	eviction := _changed(_ordered("highest_first", "db-0", ["db-0", "db-2"]), {"/owner/ready_replicas": 3})
	count(policy.delay) == 2 with input as eviction
}

test_other_kinds_by_parameter if {
	set := {"kind": "StrimziPodSet", "name": "kafka", "replicas": null, "ready_replicas": 2}
	eviction := _changed(_with(3, 2), {"/owner": set, "/peers": [_peer("kafka-1"), object.union(_peer("kafka-2"), {"ready": false}), object.union(_peer("kafka-3"), {"phase": "Failed"})]})
	policy.delay == set() with input as eviction
	reason := "StrimziPodSet shop/kafka has 2 ready of 3 wanted pods, and an eviction must leave 2 ready for a quorum; wait until 3 are ready"
	_reasons(policy.delay) == {reason} with input as _changed(eviction, {"/parameters/kinds": ["StatefulSet", "StrimziPodSet"]})
}

test_leaves_alone[name] if {
	some name, owner in {
		"no owner": null,
		"deployment": {"kind": "Deployment", "name": "db", "replicas": 3, "ready_replicas": 1},
		"scaled to zero": {"kind": "StatefulSet", "name": "db", "replicas": 0, "ready_replicas": 1},
	}
	policy.delay == set() with input as _changed(_with(3, 1), {"/owner": owner})
}

test_optional_parts_missing[name] if {
	some name, patch in {
		"no conditions": {"/pod": {"status": {}}},
		"no pod": {"/pod": null},
		"numbers not known": {"/owner": {"kind": "StatefulSet", "name": "db", "replicas": null, "ready_replicas": null}},
		"no peers": {"/parameters/order": "lowest_first", "/owner/ready_replicas": 3, "/peers": null},
	}
	policy.delay == set() with input as _changed(_with(3, 2), patch)
}
