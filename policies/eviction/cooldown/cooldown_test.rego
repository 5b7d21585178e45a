package eviction.cooldown_test

import data.eviction.cooldown

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

# Evictions at these times of the day, the newest first.
_at(times) := [$"2026-11-23T{clock}Z" | some clock in times]

_with(past) := {
	"request": {"namespace": "shop"},
	"owner": {"kind": "StatefulSet", "name": "db"},
	"history": {"owner": past},
	"parameters": {"period": "10m"},
}

_replaced(eviction, parts) := json.patch(eviction, [{"op": "replace", "path": path, "value": value} | some path, value in parts])

test_admits_first_eviction if {
	cooldown.delay == set() with input as _with([]) with time.now_ns as _noon
}

test_delays_soon_after_the_last_one if {
	reason := "StatefulSet shop/db has lost a pod to an eviction less than 10m ago; try again when that is 10m ago, or lower parameter period"
	detail := {"period": "10m", "until": "2026-11-23T12:05:00Z"}
	eviction := _with(_at(["11:55:00", "11:40:00"]))
	cooldown.delay == {{"reason": reason, "detail": detail}} with input as eviction with time.now_ns as _noon
}

test_boundary_of_period[clock] if {
	some clock, held in {"11:50:00": 0, "11:50:01": 1, "12:00:00": 1, "12:00:05": 1}
	count(cooldown.delay) == held with input as _with(_at([clock])) with time.now_ns as _noon
}

test_period_by_parameter[period] if {
	some period, held in {"1m": 0, "5m": 0, "5m1s": 1, "24h": 1}
	eviction := _replaced(_with(_at(["11:55:00"])), {"parameters/period": period})
	count(cooldown.delay) == held with input as eviction with time.now_ns as _noon
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no owner": {"owner": null},
		"no history": {"history": null},
		"no time": {"history/owner": [null]},
		"a time that cannot be told in nanoseconds": {"history/owner": ["9999-01-01T00:00:00Z"]},
	}
	cooldown.delay == set() with input as _replaced(_with(_at(["11:55:00"])), parts) with time.now_ns as _noon
}

test_two_recent_evictions_are_told_once if {
	eviction := _with(_at(["11:59:00", "11:58:00"]))
	[held.detail.until | some held in cooldown.delay] == ["2026-11-23T12:09:00Z"] with input as eviction with time.now_ns as _noon
}

test_refuses_periods_that_cannot_be[period] if {
	some period, refusals in {
		"0s": {"a period of 0s keeps nothing apart; give one such as 10m"},
		"24h1s": {"evictions are remembered for 24h, and a period of 24h1s is longer; give one up to that"},
		"24h": set(),
		"1s": set(),
	}
	cooldown.invalid_parameters == refusals with input as {"parameters": {"period": period}}
}
