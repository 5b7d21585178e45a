package eviction.long_session_test

import data.eviction.long_session as policy

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

_with(annotations) := {
	"request": {"namespace": "ci"},
	"pod": {
		"metadata": {"annotations": annotations},
		"status": {"startTime": "2026-11-23T08:00:00Z"},
	},
	"owner": {"kind": "Job", "name": "build"},
	"parameters": {"annotations": ["evictgate.dev/session", "example.com/tty"], "max": "8h"},
}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_pod_without_session[name] if {
	some name, annotations in {"other": {"a": "true"}, "none": {}, "false": {"evictgate.dev/session": "false"}}
	policy.delay == set() with input as _with(annotations) with time.now_ns as _noon
	policy.warn == set() with input as _with(annotations) with time.now_ns as _noon
}

test_delays_session_until_the_maximum if {
	reason := "Job ci/build runs a session (evictgate.dev/session=true), protected for at most 8h from the pod's start; wait until it has ended, or remove the annotation"
	detail := {"annotation": "evictgate.dev/session", "value": "true", "until": "2026-11-23T16:00:00Z"}
	policy.delay == {{"reason": reason, "detail": detail}} with input as _with({"evictgate.dev/session": "true"}) with time.now_ns as _noon
}

test_boundary_of_the_maximum[max] if {
	some max, held in {"3h59m59s": 0, "4h": 0, "4h1s": 1, "240m1s": 1, "0s": 0}
	eviction := _changed(_with({"evictgate.dev/session": "true"}), {"/parameters/max": max})
	count(policy.delay) == held with input as eviction with time.now_ns as _noon
}

test_boundary_of_the_duration[value] if {
	some value, held in {"3h": 0, "4h": 0, "4h1s": 1, "5h30m": 1, "0s": 0}
	count(policy.delay) == held with input as _with({"evictgate.dev/session": value}) with time.now_ns as _noon
}

test_duration_is_cut_to_the_maximum if {
	reason := "Job ci/build runs a session (evictgate.dev/session=72h), protected for at most 5h from the pod's start; wait until it has ended, or remove the annotation"
	eviction := _changed(_with({"evictgate.dev/session": "72h"}), {"/parameters/max": "5h"})
	_reasons(policy.delay) == {reason} with input as eviction with time.now_ns as _noon
	policy.delay == set() with input as _changed(eviction, {"/parameters/max": "4h"}) with time.now_ns as _noon
}

test_session_without_start_is_held[name] if {
	some name, status in {
		"absent": {},
		"null": {"startTime": null},
		"before 1970": {"startTime": "0001-01-01T00:00:00Z"},
		"after 2200": {"startTime": "9999-12-31T00:00:00Z"},
	}
	some violation in policy.delay with input as _changed(_with({"evictgate.dev/session": "1h"}), {"/pod/status": status}) with time.now_ns as _noon
	violation.detail.until == null
}

test_longest_durations_do_not_fail if {
	longest := "99999h999999m99999999s"
	eviction := _changed(_with({"evictgate.dev/session": longest}), {"/parameters/max": longest})
	count(policy.delay) == 1 with input as eviction with time.now_ns as _noon
}

test_warns_of_value_it_cannot_read[value] if {
	some value in ["", "yes", "True", "8", "-4h", "1d", "1.5h", "999999h", "4h ", "4h\n", "2026-11-23T16:00:00Z"]
	eviction := _with({"evictgate.dev/session": value})
	policy.delay == set() with input as eviction with time.now_ns as _noon
	count(policy.warn) == 1 with input as eviction with time.now_ns as _noon
}

test_cuts_long_values if {
	long := concat("", [x | some _ in numbers.range(1, 100); x := "é"])
	some told in policy.warn with input as _with({"evictgate.dev/session": long})
	count(told.detail.value) == 40
}

test_two_sessions_are_both_told if {
	eviction := _with({"evictgate.dev/session": "true", "example.com/tty": "6h"})
	_reasons(policy.delay) == {
		"Job ci/build runs a session (evictgate.dev/session=true), protected for at most 8h from the pod's start; wait until it has ended, or remove the annotation",
		"Job ci/build runs a session (example.com/tty=6h), protected for at most 6h from the pod's start; wait until it has ended, or remove the annotation",
	} with input as eviction with time.now_ns as _noon
}

test_bare_pod_is_held if {
	reason := "the pod runs a session (evictgate.dev/session=true), protected for at most 8h from the pod's start; wait until it has ended, or remove the annotation"
	eviction := _changed(_with({"evictgate.dev/session": "true"}), {"/owner": null})
	_reasons(policy.delay) == {reason} with input as eviction with time.now_ns as _noon
}

test_optional_parts_missing[name] if {
	some name, pod in {"no annotations": {"metadata": {}}, "null": {"metadata": {"annotations": null}}, "nothing": {}, "no pod": null}
	policy.delay == set() with input as _changed(_with({}), {"/pod": pod})
	policy.warn == set() with input as _changed(_with({}), {"/pod": pod})
}
