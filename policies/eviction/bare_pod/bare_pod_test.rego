package eviction.bare_pod_test

import data.eviction.bare_pod as policy

_with(labels, annotations) := {
	"request": {"namespace": "shop"},
	"pod": {"metadata": {"name": "shell", "labels": labels, "annotations": annotations}},
	"owner": null,
	"parameters": {"allowed_by": ["evictgate.dev/allow-eviction", "cluster-autoscaler.kubernetes.io/safe-to-evict"]},
}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

_reason := "the pod has no controller, so nothing recreates it after an eviction; run it by a Deployment or a Job, set annotation evictgate.dev/allow-eviction=true on it, or delete it directly"

test_admits_pod_with_a_controller[kind] if {
	some kind in ["Deployment", "Job", "Node", "Widget"]
	policy.deny == set() with input as _changed(_with({}, {}), {"/owner": {"kind": kind, "name": "x"}})
}

test_denies_bare_pod if {
	detail := {"allowed_by": ["evictgate.dev/allow-eviction", "cluster-autoscaler.kubernetes.io/safe-to-evict"]}
	policy.deny == {{"reason": _reason, "detail": detail}} with input as _with({"app": "shell"}, {})
}

test_label_or_annotation_allows[key] if {
	some key in ["evictgate.dev/allow-eviction", "cluster-autoscaler.kubernetes.io/safe-to-evict"]
	policy.deny == set() with input as _with({key: "true"}, {})
	policy.deny == set() with input as _with({}, {key: "true"})
	policy.deny == set() with input as _with({key: "false"}, {key: "true"})
}

test_only_true_allows[value] if {
	some value in ["false", "True", "yes", ""]
	_reasons(policy.deny) == {_reason} with input as _with({}, {"evictgate.dev/allow-eviction": value})
}

test_other_marks_by_parameter if {
	eviction := _changed(_with({"example.com/scratch": "true"}, {}), {"/parameters/allowed_by": ["example.com/scratch"]})
	policy.deny == set() with input as eviction
	policy.deny != set() with input as _changed(eviction, {"/pod/metadata": {"name": "shell", "annotations": {"evictgate.dev/allow-eviction": "true"}}})
}

test_no_marks_at_all if {
	eviction := _changed(_with({}, {"evictgate.dev/allow-eviction": "true"}), {"/parameters/allowed_by": []})
	reason := "the pod has no controller, so nothing recreates it after an eviction; run it by a Deployment or a Job, or delete it directly"
	_reasons(policy.deny) == {reason} with input as eviction
}

test_mirror_pod_is_left_alone[value] if {
	some value in ["5c1f0e2a", ""]
	policy.deny == set() with input as _with({}, {"kubernetes.io/config.mirror": value})
}

test_optional_parts_missing[name] if {
	some name, case in {
		"no labels or annotations": {"patch": {"/pod/metadata": {"name": "shell"}}, "held": 1},
		"null": {"patch": {"/pod/metadata": {"name": "shell", "labels": null, "annotations": null}}, "held": 1},
		"no pod": {"patch": {"/pod": null}, "held": 0},
	}
	count(policy.deny) == case.held with input as _changed(_with({}, {}), case.patch)
}
