package eviction.one_zone_at_a_time_test

import data.eviction.one_zone_at_a_time as policy

_with(zone, peers) := {
	"request": {"namespace": "shop"},
	"pod": {"status": {"conditions": [
		{"type": "PodScheduled", "status": "True"},
		{"type": "Ready", "status": "True"},
	]}},
	"node": {"labels": {"topology.kubernetes.io/zone": zone}},
	"owner": {"kind": "StatefulSet", "name": "db", "replicas": 6, "missing_replicas": 0},
	"peers": peers,
	"parameters": {"missing": "hold", "max_disrupted": 0},
}

_ready(name, zone) := {"name": name, "node": $"node-{zone}", "zone": zone, "ready": true, "phase": "Running", "terminating": false}

_unready(name, zone) := object.union(_ready(name, zone), {"ready": false})

_terminating(name, zone) := object.union(_ready(name, zone), {"terminating": true})

_pending(name) := {"name": name, "node": "", "zone": "", "ready": false, "phase": "Pending", "terminating": false}

_changed(eviction, patches) := json.patch(eviction, [{"op": "replace", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_while_all_are_ready if {
	policy.delay == set() with input as _with("a", [_ready("db-1", "a"), _ready("db-2", "b")])
}

test_admits_in_the_zone_that_is_disrupted if {
	peers := [_unready("db-1", "a"), _terminating("db-2", "a"), _ready("db-3", "b")]
	policy.delay == set() with input as _changed(_with("a", peers), {"/owner/missing_replicas": 1})
}

test_delays_in_another_zone[name] if {
	some name, peer in {"not ready": _unready("db-1", "b"), "terminating": _terminating("db-1", "b")}
	reason := "StatefulSet shop/db has disrupted pods (zone b: 1), and only one zone may be disrupted at a time; wait until they are ready"
	detail := {"zone": "a", "disrupted": {"b": {"db-1"}}, "missing": 0}
	policy.delay == {{"reason": reason, "detail": detail}} with input as _with("a", [peer, _ready("db-2", "c")])
}

test_all_held_pods_are_told_the_same if {
	peers := [_unready("db-1", "a"), _unready("db-2", "b"), _unready("db-3", "b")]
	reason := "StatefulSet shop/db has disrupted pods (zone a: 1, zone b: 2), and only one zone may be disrupted at a time; wait until they are ready"
	every zone in ["a", "b", "c"] {
		_reasons(policy.delay) == {reason} with input as _with(zone, peers)
	}
}

test_missing_pod_holds_every_zone if {
	reason := "StatefulSet shop/db has disrupted pods (zone a: 1, not created yet: 2), and only one zone may be disrupted at a time; wait until they are ready"
	eviction := _changed(_with("a", [_terminating("db-1", "a")]), {"/owner/missing_replicas": 3})
	_reasons(policy.delay) == {reason} with input as eviction
}

test_pod_that_is_not_on_a_node_holds_every_zone if {
	reason := "StatefulSet shop/db has disrupted pods (zone not known: 1), and only one zone may be disrupted at a time; wait until they are ready"
	_reasons(policy.delay) == {reason} with input as _with("a", [_pending("db-1")])
}

test_missing_pods_are_ignored_by_parameter if {
	eviction := _changed(_with("a", [_pending("db-1"), _unready("db-2", "a")]), {
		"/owner/missing_replicas": 3,
		"/parameters/missing": "ignore",
	})
	policy.delay == set() with input as eviction
}

test_pod_on_a_node_without_zone_is_not_ignored if {
	peer := object.union(_unready("db-1", ""), {"node": "node-x"})
	eviction := _changed(_with("a", [peer]), {"/parameters/missing": "ignore"})
	count(policy.delay) == 1 with input as eviction
}

test_pod_of_unknown_zone_waits_for_all[name] if {
	some name, node in {"no node": null, "no labels": {"labels": null}, "no label": {"labels": {}}, "empty": {"labels": {"topology.kubernetes.io/zone": ""}}}
	eviction := _changed(_with("a", [_ready("db-1", "")]), {"/node": node})
	policy.delay == set() with input as eviction
	count(policy.delay) == 1 with input as _changed(eviction, {"/peers": [_unready("db-1", "")]})
	count(policy.delay) == 1 with input as _changed(eviction, {"/peers": [_unready("db-1", "b")]})
}

test_boundary_of_max_disrupted if {
	eviction := _changed(_with("a", [_unready("db-1", "a"), _unready("db-2", "a")]), {"/parameters/max_disrupted": 2})
	reason := "StatefulSet shop/db has disrupted pods (zone a: 2), and at most 2 may be disrupted at once; wait until they are ready"
	_reasons(policy.delay) == {reason} with input as eviction
	policy.delay == set() with input as _changed(eviction, {"/parameters/max_disrupted": 3})
}

test_both_limits_at_once_are_told_once if {
	peers := [_unready("db-1", "a"), _unready("db-2", "a"), _unready("db-3", "b")]
	reason := "StatefulSet shop/db has disrupted pods (zone a: 2, zone b: 1), and only one zone may be disrupted at a time; wait until they are ready"
	_reasons(policy.delay) == {reason} with input as _changed(_with("a", peers), {"/parameters/max_disrupted": 1})
}

test_finished_pods_are_not_disrupted[phase] if {
	some phase in ["Failed", "Succeeded"]
	policy.delay == set() with input as _with("a", [object.union(_unready("db-1", "b"), {"phase": phase})])
}

test_admits_pod_that_is_not_ready if {
	eviction := _changed(_with("a", [_unready("db-1", "b")]), {"/pod/status/conditions": [{"type": "Ready", "status": "False"}]})
	policy.delay == set() with input as eviction
}

test_leaves_alone[name] if {
	some name, owner in {
		"no owner": null,
		"job": {"kind": "Job", "name": "x", "replicas": 2, "missing_replicas": 1},
		"cron job": {"kind": "CronJob", "name": "x", "replicas": 2, "missing_replicas": 1},
		"daemon set": {"kind": "DaemonSet", "name": "x", "replicas": 2, "missing_replicas": 1},
		"static pod": {"kind": "Node", "name": "x", "replicas": null, "missing_replicas": null},
		"scaled to zero": {"kind": "Deployment", "name": "x", "replicas": 0, "missing_replicas": 0},
	}
	policy.delay == set() with input as _changed(_with("a", [_unready("db-1", "b")]), {"/owner": owner})
}

test_optional_parts_missing[name] if {
	some name, patch in {
		"no conditions": {"/pod": {"status": {}}},
		"no pod": {"/pod": null},
		"no peers": {"/peers": null},
		"number of wanted pods not known": {"/owner": {"kind": "Rollout", "name": "db", "replicas": null, "missing_replicas": null}, "/peers": []},
	}
	policy.delay == set() with input as _changed(_with("a", [_unready("db-1", "b")]), patch)
}
