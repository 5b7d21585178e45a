package eviction.last_ready_replica_test

import data.eviction.last_ready_replica

_with(replicas, ready, pod_ready) := {
	"request": {"namespace": "shop"},
	"pod": {"status": {"conditions": [
		{"type": "PodScheduled", "status": "True"},
		{"type": "Ready", "status": pod_ready},
	]}},
	"owner": {"kind": "Deployment", "name": "web", "replicas": replicas, "ready_replicas": ready},
	"parameters": {"min_ready": 1},
}

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_while_another_is_ready if {
	last_ready_replica.delay == set() with input as _with(2, 2, "True")
}

test_delays_last_ready_pod if {
	reason := "Deployment shop/web has 1 ready of 3 wanted pods, and an eviction must leave 1 ready; wait until 2 are ready, or scale it up first"
	detail := {"ready_replicas": 1, "replicas": 3, "min_ready": 1}
	last_ready_replica.delay == {{"reason": reason, "detail": detail}} with input as _with(3, 1, "True")
}

test_delays_singleton if {
	reason := "Deployment shop/web has 1 ready of 1 wanted pods, and an eviction must leave 1 ready; wait until 2 are ready, or scale it up first"
	_reasons(last_ready_replica.delay) == {reason} with input as _with(1, 1, "True")
}

test_boundary_of_min_ready if {
	parameters := {"min_ready": 2}
	count(last_ready_replica.delay) == 1 with input as object.union(_with(3, 2, "True"), {"parameters": parameters})
	last_ready_replica.delay == set() with input as object.union(_with(3, 3, "True"), {"parameters": parameters})
}

test_min_ready_of_zero_holds_nothing if {
	last_ready_replica.delay == set() with input as object.union(_with(1, 1, "True"), {"parameters": {"min_ready": 0}})
}

test_admits_pod_that_is_not_ready[status] if {
	some status in ["False", "Unknown"]
	last_ready_replica.delay == set() with input as _with(3, 1, status)
}

test_admits_pod_of_workload_scaled_to_zero if {
	last_ready_replica.delay == set() with input as _with(0, 1, "True")
}

test_leaves_alone[kind] if {
	some kind in ["Job", "CronJob", "Node"]
	last_ready_replica.delay == set() with input as object.union(_with(1, 1, "True"), {"owner": {"kind": kind}})
}

test_unknown_number_of_wanted_pods_is_told if {
	reason := "Rollout shop/web has 1 ready of an unknown number of wanted pods, and an eviction must leave 1 ready; wait until 2 are ready, or scale it up first"
	rollout := {"kind": "Rollout", "name": "web", "replicas": null, "ready_replicas": 1}
	_reasons(last_ready_replica.delay) == {reason} with input as object.union(_with(1, 1, "True"), {"owner": rollout})
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no owner": {"owner": null},
		"numbers not known": {"owner": {"kind": "Rollout", "name": "web", "replicas": null, "ready_replicas": null}},
		"no conditions": {"pod": {"status": {}}},
		"no status": {"pod": {}},
		"no pod": {"pod": null},
	}
	eviction := json.patch(_with(1, 1, "True"), [{"op": "replace", "path": key, "value": value} | some key, value in parts])
	last_ready_replica.delay == set() with input as eviction
}
