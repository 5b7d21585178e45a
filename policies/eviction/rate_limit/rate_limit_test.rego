package eviction.rate_limit_test

import data.eviction.rate_limit

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

_nothing := {"owner": [], "node": [], "namespace": [], "zone": [], "cluster": [], "holds": {}}

_with(limits, history) := {
	"request": {"namespace": "shop"},
	"owner": {"kind": "Deployment", "name": "web"},
	"history": object.union(_nothing, history),
	"parameters": {"limits": limits},
}

# Evictions at these times of the day, the newest first.
_at(times) := [$"2026-11-23T{clock}Z" | some clock in times]

_replaced(eviction, parts) := json.patch(eviction, [{"op": "replace", "path": path, "value": value} | some path, value in parts])

test_admits_below_the_limit if {
	limits := [{"per": "node", "max": 2, "period": "10m"}]
	rate_limit.delay == set() with input as _with(limits, {"node": _at(["11:59:00"])}) with time.now_ns as _noon
	rate_limit.delay == set() with input as _with(limits, {}) with time.now_ns as _noon
}

test_delays_at_the_limit if {
	reason := "Deployment shop/web has had all evictions that the limit of 2 per owner in 10m allows; try again when the oldest of them is 10m ago, or raise the limit"
	detail := {"per": "owner", "max": 2, "period": "10m", "until": "2026-11-23T12:01:00Z"}
	eviction := _with([{"per": "owner", "max": 2, "period": "10m"}], {"owner": _at(["11:59:00", "11:51:00", "11:40:00"])})
	rate_limit.delay == {{"reason": reason, "detail": detail}} with input as eviction with time.now_ns as _noon
}

test_boundary_of_period[clock] if {
	some clock, held in {"11:50:00": 0, "11:50:01": 1, "12:00:00": 1, "12:00:05": 1}
	eviction := _with([{"per": "node", "max": 1, "period": "10m"}], {"node": _at([clock])})
	count(rate_limit.delay) == held with input as eviction with time.now_ns as _noon
}

test_each_counts_its_own[per] if {
	some per, subject in {
		"owner": "Deployment shop/web",
		"node": "the pod's node",
		"namespace": "namespace shop",
		"zone": "the zone of the pod's node",
		"cluster": "the cluster",
	}
	limits := [{"per": per, "max": 1, "period": "1h"}]
	some held in rate_limit.delay with input as _with(limits, {per: _at(["11:30:00"])}) with time.now_ns as _noon
	startswith(held.reason, $"{subject} has had all evictions that the limit of 1 per {per} in 1h allows")
	others := {other: _at(["11:59:00"]) | some other in ["owner", "node", "namespace", "zone", "cluster"]; other != per}
	rate_limit.delay == set() with input as _with(limits, others) with time.now_ns as _noon
}

test_two_limits_are_both_told if {
	limits := [
		{"per": "node", "max": 1, "period": "1m"},
		{"per": "node", "max": 2, "period": "1h"},
		{"per": "cluster", "max": 3, "period": "24h"},
	]
	history := {"node": _at(["11:59:30", "11:30:00"]), "cluster": _at(["11:59:30", "11:30:00"])}
	{held.detail.max | some held in rate_limit.delay} == {1, 2} with input as _with(limits, history) with time.now_ns as _noon
}

test_bare_pod_has_no_owner_to_count if {
	limits := [{"per": "owner", "max": 1, "period": "1h"}, {"per": "node", "max": 1, "period": "1h"}]
	eviction := _replaced(_with(limits, {"owner": _at(["11:59:00"]), "node": _at(["11:59:00"])}), {"owner": null})
	{held.detail.per | some held in rate_limit.delay} == {"node"} with input as eviction with time.now_ns as _noon
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no history": {"history": null},
		"no time": {"history/node": [null]},
		"a time that cannot be told in nanoseconds": {"history/node": ["9999-01-01T00:00:00Z"]},
	}
	eviction := _replaced(_with([{"per": "node", "max": 1, "period": "1h"}], {"node": _at(["11:59:00"])}), parts)
	rate_limit.delay == set() with input as eviction with time.now_ns as _noon
}

test_refuses_periods_that_cannot_be[period] if {
	some period, refusals in {
		"0s": {"limit 2 has a period of 0s, in which nothing happens; give one such as 10m"},
		"24h1s": {"limit 2 has a period of 24h1s, but evictions are remembered for 24h; give a period up to that"},
		"99999h99999h99999h": {"limit 2 has a period of 99999h99999h99999h, but evictions are remembered for 24h; give a period up to that"},
		"24h": set(),
		"1s": set(),
	}
	limits := [{"per": "node", "max": 1, "period": "1h"}, {"per": "node", "max": 1, "period": period}]
	rate_limit.invalid_parameters == refusals with input as {"parameters": {"limits": limits}}
}
