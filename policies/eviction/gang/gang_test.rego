package eviction.gang_test

import data.eviction.gang as policy

_with(neighbours) := {
	"request": {"namespace": "ml"},
	"pod": {
		"metadata": {"labels": {"jobset.sigs.k8s.io/jobset-name": "train", "app": "x"}, "annotations": {}},
		"spec": {"nodeName": "node-1"},
	},
	"node": {"unschedulable": false},
	"owner": {"kind": "JobSet", "name": "train", "missing_replicas": 0},
	"peers": [],
	"neighbours": neighbours,
	"parameters": {
		"labels": ["evictgate.dev/gang", "jobset.sigs.k8s.io/jobset-name"],
		"size_annotations": {"jobset.sigs.k8s.io/jobset-name": "size", "evictgate.dev/gang": "evictgate.dev/gang-size"},
		"cordoned_together": true,
	},
}

_member(name, more) := object.union(
	{
		"name": name,
		"labels": {"jobset.sigs.k8s.io/jobset-name": "train"},
		"node": $"node-of-{name}",
		"node_unschedulable": false,
		"phase": "Running",
		"terminating": false,
	},
	more,
)

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

_whole := [_member("a", {}), _member("b", {}), _member("other", {"labels": {"jobset.sigs.k8s.io/jobset-name": "eval"}}), _member("bare", {"labels": null})]

_reason := "the 3 pods of unit jobset.sigs.k8s.io/jobset-name=train in namespace ml go together or not at all; cordon the nodes of all of them, or wait until their work is done"

test_admits_pod_without_group if {
	policy.delay == set() with input as _changed(_with(_whole), {"/pod/metadata/labels": {"app": "x"}})
	policy.delay == set() with input as _changed(_with(_whole), {"/pod/metadata/labels": {"jobset.sigs.k8s.io/jobset-name": ""}})
}

test_delays_pod_of_a_whole_unit if {
	detail := {"label": "jobset.sigs.k8s.io/jobset-name", "value": "train", "pods": 3, "nodes": {"node-1", "node-of-a", "node-of-b"}}
	policy.delay == {{"reason": _reason, "detail": detail}} with input as _with(_whole)
}

test_admits_when_one_is_lost[name] if {
	some name, more in {
		"terminating": {"terminating": true},
		"failed": {"phase": "Failed"},
	}
	policy.delay == set() with input as _with(array.concat(_whole, [_member("c", more)]))
}

test_admits_when_the_owner_misses_one if {
	policy.delay == set() with input as _changed(_with(_whole), {"/owner/missing_replicas": 1})
}

test_succeeded_pods_are_not_lost if {
	done := _member("c", {"phase": "Succeeded", "terminating": true})
	eviction := _changed(_with(array.concat(_whole, [done])), {
		"/owner/missing_replicas": 1,
		"/peers": [{"name": "c", "phase": "Succeeded"}],
		"/pod/metadata/annotations/size": "4",
	})
	_reasons(policy.delay) == {_reason} with input as eviction
}

test_failed_pod_whose_place_is_taken_is_not_lost if {
	eviction := _with(array.concat(_whole, [_member("c", {"phase": "Failed"})]))
	_reasons(policy.delay) == {_reason} with input as _changed(eviction, {"/peers": [{"name": "c", "phase": "Failed"}]})
}

test_boundary_of_the_size[size] if {
	some size, held in {"2": 1, "3": 1, "4": 0, "0": 1, "many": 1, "": 1, "9999999999": 1}
	count(policy.delay) == held with input as _changed(_with(_whole), {"/pod/metadata/annotations/size": size})
}

test_unit_of_one_pod_is_left_alone if {
	policy.delay == set() with input as _with([_member("done", {"phase": "Succeeded"})])
	policy.delay == set() with input as _with([])
}

test_waiting_pod_does_not_break_the_unit if {
	waiting := _member("c", {"phase": "Pending", "node": ""})
	count(policy.delay) == 1 with input as _with(array.concat(_whole, [waiting]))
}

test_unit_goes_when_all_its_nodes_are_cordoned if {
	cordoned := {"node_unschedulable": true}
	all := [_member("a", cordoned), _member("b", cordoned), _member("c", {"phase": "Pending", "node": ""})]
	eviction := _changed(_with(all), {"/node/unschedulable": true})
	policy.delay == set() with input as eviction
	count(policy.delay) == 1 with input as _changed(eviction, {"/node/unschedulable": false})
	count(policy.delay) == 1 with input as _changed(eviction, {"/neighbours/0/node_unschedulable": false})
}

test_cordoned_unit_stays_by_parameter if {
	eviction := _changed(_with([_member("a", {"node_unschedulable": true})]), {
		"/node/unschedulable": true,
		"/parameters/cordoned_together": false,
	})
	reason := "the 2 pods of unit jobset.sigs.k8s.io/jobset-name=train in namespace ml go together or not at all; wait until their work is done"
	_reasons(policy.delay) == {reason} with input as eviction
}

test_pod_of_two_units_is_of_the_first if {
	eviction := _changed(_with([_member("a", {}), _member("b", {"labels": {"evictgate.dev/gang": "cache"}})]), {
		"/pod/metadata/labels/evictgate.dev~1gang": "cache",
		"/pod/metadata/annotations/size": "9",
	})
	reason := "the 2 pods of unit evictgate.dev/gang=cache in namespace ml go together or not at all; cordon the nodes of all of them, or wait until their work is done"
	_reasons(policy.delay) == {reason} with input as eviction
}

test_optional_parts_missing[name] if {
	some name, case in {
		"no node": {"patch": {"/node": null}, "held": 1},
		"no owner": {"patch": {"/owner": null}, "held": 1},
		"owner whose number is not known": {"patch": {"/owner/missing_replicas": null}, "held": 1},
		"no peers": {"patch": {"/peers": null}, "held": 1},
		"no annotations": {"patch": {"/pod/metadata": {"labels": {"jobset.sigs.k8s.io/jobset-name": "train"}}}, "held": 1},
		"no neighbours": {"patch": {"/neighbours": null}, "held": 0},
		"no labels": {"patch": {"/pod/metadata": {}}, "held": 0},
		"no pod": {"patch": {"/pod": null}, "held": 0},
	}
	count(policy.delay) == case.held with input as _changed(_with(_whole), case.patch)
}
