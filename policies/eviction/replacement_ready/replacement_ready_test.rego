package eviction.replacement_ready_test

import data.eviction.replacement_ready as policy

_with(replicas, ready) := {
	"request": {"namespace": "shop"},
	"pod": {
		"metadata": {"annotations": {}},
		"status": {"conditions": [
			{"type": "PodScheduled", "status": "True"},
			{"type": "Ready", "status": "True"},
		]},
	},
	"owner": {"kind": "Deployment", "name": "web", "replicas": replicas, "ready_replicas": ready},
	"parameters": {"max_replicas": 0, "wanted_annotation": "evictgate.dev/wanted-replicas"},
}

_annotated(eviction, value) := _changed(eviction, {"/pod/metadata/annotations": {"evictgate.dev/wanted-replicas": value}})

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_when_a_spare_pod_is_ready if {
	policy.delay == set() with input as _with(1, 2)
	policy.delay == set() with input as _with(3, 5)
}

test_delays_without_a_spare_pod if {
	reason := "Deployment shop/web has 1 ready of 1 needed pods, and an eviction waits until one more is ready; run kubectl rollout restart, whose surge moves its pods off cordoned nodes"
	detail := {"ready_replicas": 1, "needed": 1, "replicas": 1}
	policy.delay == {{"reason": reason, "detail": detail}} with input as _with(1, 1)
}

test_boundary_is_one_more_than_needed[ready] if {
	some ready, held in {1: 1, 2: 1, 3: 1, 4: 0, 5: 0}
	count(policy.delay) == held with input as _with(3, ready)
}

test_scaling_up_counts_with_the_annotation if {
	count(policy.delay) == 1 with input as _with(3, 3)
	policy.delay == set() with input as _annotated(_with(3, 3), "2")
	reason := "Deployment shop/web has 2 ready of 2 needed pods, and an eviction waits until one more is ready; scale it up to 3 until its pods have moved"
	_reasons(policy.delay) == {reason} with input as _annotated(_with(3, 2), "2")
}

test_annotation_that_cannot_be_read_is_ignored[value] if {
	some value in ["", "two", "-1", "1.5", "01", "9999999999", " 1"]
	policy.delay == set() with input as _annotated(_with(1, 2), value)
	count(policy.delay) == 1 with input as _annotated(_with(2, 2), value)
}

test_annotation_of_zero_asks_for_nothing if {
	policy.delay == set() with input as _annotated(_with(1, 1), "0")
}

test_other_annotation_by_parameter if {
	eviction := _changed(_with(3, 3), {
		"/parameters/wanted_annotation": "example.com/base",
		"/pod/metadata/annotations": {"example.com/base": "2"},
	})
	policy.delay == set() with input as eviction
}

test_statefulset_is_told_to_scale_up if {
	reason := "StatefulSet shop/db has 2 ready of 2 needed pods, and an eviction waits until one more is ready; annotate its pods evictgate.dev/wanted-replicas=2 and scale it up to 3 until they have moved"
	_reasons(policy.delay) == {reason} with input as _changed(_with(2, 2), {"/owner/kind": "StatefulSet", "/owner/name": "db"})
}

test_boundary_of_max_replicas if {
	count(policy.delay) == 1 with input as _changed(_with(2, 2), {"/parameters/max_replicas": 2})
	policy.delay == set() with input as _changed(_with(3, 3), {"/parameters/max_replicas": 2})
	count(policy.delay) == 1 with input as _annotated(_changed(_with(3, 2), {"/parameters/max_replicas": 2}), "2")
}

test_admits_pod_that_is_not_ready[status] if {
	some status in ["False", "Unknown"]
	policy.delay == set() with input as _changed(_with(1, 1), {"/pod/status/conditions": [{"type": "Ready", "status": status}]})
}

test_leaves_alone[kind] if {
	some kind in ["Job", "CronJob", "DaemonSet", "Node"]
	policy.delay == set() with input as _changed(_with(1, 1), {"/owner/kind": kind})
}

test_number_that_is_not_known if {
	rollout := {"kind": "Rollout", "name": "web", "replicas": null, "ready_replicas": 1}
	policy.delay == set() with input as _changed(_with(1, 1), {"/owner": rollout})
	count(policy.delay) == 1 with input as _annotated(_changed(_with(1, 1), {"/owner": rollout}), "1")
}

test_optional_parts_missing[name] if {
	some name, case in {
		"no owner": {"patch": {"/owner": null}, "held": 0},
		"scaled to zero": {"patch": {"/owner/replicas": 0}, "held": 0},
		"ready pods not known": {"patch": {"/owner/ready_replicas": null}, "held": 0},
		"no conditions": {"patch": {"/pod/status": {}}, "held": 0},
		"no pod": {"patch": {"/pod": null}, "held": 0},
		"no annotations": {"patch": {"/pod/metadata": {}}, "held": 1},
	}
	count(policy.delay) == case.held with input as _changed(_with(1, 1), case.patch)
}
