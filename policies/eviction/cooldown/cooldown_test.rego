package eviction.cooldown_test

import data.eviction.cooldown

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

_eviction(clock, name) := {"at": $"2026-11-23T{clock}Z", "namespace": "shop", "name": name, "evictor": "karpenter"}

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
	detail := {"period": "10m", "until": "2026-11-23T12:05:00Z", "pod": "db-1", "evictor": "karpenter"}
	eviction := _with([_eviction("11:55:00", "db-1"), _eviction("11:40:00", "db-2")])
	cooldown.delay == {{"reason": reason, "detail": detail}} with input as eviction with time.now_ns as _noon
}

test_boundary_of_period[clock] if {
	some clock, held in {"11:50:00": 0, "11:50:01": 1, "12:00:00": 1, "12:00:05": 1}
	count(cooldown.delay) == held with input as _with([_eviction(clock, "db-1")]) with time.now_ns as _noon
}

test_period_by_parameter[period] if {
	some period, held in {"1m": 0, "5m": 0, "5m1s": 1, "24h": 1}
	eviction := _replaced(_with([_eviction("11:55:00", "db-1")]), {"parameters/period": period})
	count(cooldown.delay) == held with input as eviction with time.now_ns as _noon
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no owner": {"owner": null},
		"no history": {"history": null},
		"no time": {"history/owner": [{"at": null, "name": "db-1", "evictor": ""}]},
		"a time that cannot be told in nanoseconds": {"history/owner": [{"at": "9999-01-01T00:00:00Z", "name": "db-1", "evictor": ""}]},
	}
	cooldown.delay == set() with input as _replaced(_with([_eviction("11:55:00", "db-1")]), parts) with time.now_ns as _noon
}

test_two_recent_evictions_are_told_once if {
	eviction := _with([_eviction("11:59:00", "db-1"), _eviction("11:58:00", "db-2")])
	{held.detail.pod | some held in cooldown.delay} == {"db-1"} with input as eviction with time.now_ns as _noon
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
