package eviction.minimum_age_test

import data.eviction.minimum_age

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

_with(kind, started) := {
	"request": {"namespace": "shop"},
	"pod": {
		"metadata": {"creationTimestamp": "2026-11-23T08:00:00Z"},
		"status": {"startTime": started},
	},
	"owner": {"kind": kind, "name": "web"},
	"parameters": {"minimum": "10m", "jobs": true},
}

_replaced(eviction, parts) := json.patch(eviction, [{"op": "replace", "path": path, "value": value} | some path, value in parts])

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_old_pod if {
	minimum_age.delay == set() with input as _with("Deployment", "2026-11-23T08:00:00Z") with time.now_ns as _noon
}

test_delays_young_pod if {
	reason := "Deployment shop/web has pods younger than 10m, which may not be evicted; wait until they are older, or lower parameter minimum"
	detail := {"minimum": "10m", "until": "2026-11-23T12:09:00Z"}
	minimum_age.delay == {{"reason": reason, "detail": detail}} with input as _with("Deployment", "2026-11-23T11:59:00Z") with time.now_ns as _noon
}

test_boundary_of_minimum[started] if {
	some started, held in {"2026-11-23T11:50:00Z": 0, "2026-11-23T11:50:01Z": 1}
	count(minimum_age.delay) == held with input as _with("StatefulSet", started) with time.now_ns as _noon
}

test_every_way_to_write_minimum[minimum] if {
	some minimum, held in {"0s": 0, "59s": 0, "61s": 1, "1m": 0, "0h1m1s": 1, "99999h99999h99999h": 1}
	eviction := _replaced(_with("Deployment", "2026-11-23T11:59:00Z"), {"parameters/minimum": minimum})
	count(minimum_age.delay) == held with input as eviction with time.now_ns as _noon
}

test_protects_jobs_however_old[kind] if {
	some kind in ["Job", "CronJob"]
	reason := $"{kind} shop/web has pods that may not be evicted before they finish; wait until they are done, or set parameter jobs to false"
	minimum_age.delay == {{"reason": reason, "detail": {"job": "web"}}} with input as _with(kind, "2026-11-01T00:00:00Z") with time.now_ns as _noon
	minimum_age.delay == {{"reason": reason, "detail": {"job": "web"}}} with input as _with(kind, "2026-11-23T11:59:00Z") with time.now_ns as _noon
}

test_jobs_by_age_when_told_so if {
	old := _replaced(_with("Job", "2026-11-23T08:00:00Z"), {"parameters/jobs": false})
	minimum_age.delay == set() with input as old with time.now_ns as _noon
	young := _replaced(_with("Job", "2026-11-23T11:59:00Z"), {"parameters/jobs": false})
	count(minimum_age.delay) == 1 with input as young with time.now_ns as _noon
}

test_counts_from_creation_without_a_start[started] if {
	some started in [null, "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"]
	old := _with("Deployment", started)
	minimum_age.delay == set() with input as old with time.now_ns as _noon
	young := _replaced(old, {"pod/metadata/creationTimestamp": "2026-11-23T11:55:00Z"})
	count(minimum_age.delay) == 1 with input as young with time.now_ns as _noon
}

test_optional_parts_missing[name] if {
	some name, pod in {
		"no status": {"metadata": {"creationTimestamp": null}},
		"no metadata": {"status": {}},
		"no pod": null,
	}
	eviction := _replaced(_with("Deployment", null), {"pod": pod, "owner": null})
	minimum_age.delay == set() with input as eviction with time.now_ns as _noon
}

test_bare_pod if {
	reason := "the pod is younger than 10m and may not be evicted; wait until it is older, or lower parameter minimum"
	eviction := _replaced(_with("Deployment", "2026-11-23T11:59:00Z"), {"owner": null})
	_reasons(minimum_age.delay) == {reason} with input as eviction with time.now_ns as _noon
}

test_young_pod_of_a_job_is_told_once if {
	count(minimum_age.delay) == 1 with input as _with("Job", "2026-11-23T11:59:59Z") with time.now_ns as _noon
}
