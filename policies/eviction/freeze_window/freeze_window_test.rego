package eviction.freeze_window_test

import data.eviction.freeze_window

_with(windows) := {
	"request": {"namespace": "shop", "evictor": "karpenter"},
	"parameters": {"windows": windows},
}

_at(instant) := time.parse_rfc3339_ns(instant)

# A Monday.
_monday := _at("2026-11-23T12:00:00Z")

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_without_windows if {
	freeze_window.delay == set() with input as _with([]) with time.now_ns as _monday
	freeze_window.invalid_parameters == set() with input as _with([])
}

test_delays_in_window if {
	reason := "freeze window trade (08:00 to 18:00 UTC, Mon Tue) holds evictions by karpenter in namespace shop; try again after it, or change parameter windows"
	detail := {"window": "trade", "open": "08:00 to 18:00 UTC, Mon Tue"}
	windows := [{"name": "trade", "weekdays": ["tuesday", "MON"], "from": "08:00", "to": "18:00"}]
	freeze_window.delay == {{"reason": reason, "detail": detail}} with input as _with(windows) with time.now_ns as _monday
}

test_window_begins_at_from_and_ends_before_to[instant] if {
	some instant, held in {
		"2026-11-23T07:59:59Z": 0,
		"2026-11-23T08:00:00Z": 1,
		"2026-11-23T17:59:59Z": 1,
		"2026-11-23T18:00:00Z": 0,
		"2026-11-24T08:00:00Z": 0,
	}
	windows := [{"weekdays": ["Mon"], "from": "08:00", "to": "18:00"}]
	count(freeze_window.delay) == held with input as _with(windows) with time.now_ns as _at(instant)
}

test_window_across_midnight_belongs_to_its_first_day[instant] if {
	some instant, held in {
		"2026-11-23T05:59:59Z": 0,
		"2026-11-23T21:59:59Z": 0,
		"2026-11-23T22:00:00Z": 1,
		"2026-11-24T05:59:59Z": 1,
		"2026-11-24T06:00:00Z": 0,
		"2026-11-24T22:00:00Z": 0,
	}
	windows := [{"weekdays": ["Mon"], "from": "22:00", "to": "06:00"}]
	count(freeze_window.delay) == held with input as _with(windows) with time.now_ns as _at(instant)
}

test_window_of_whole_days[name] if {
	some name, case in {
		"Sunday": {"now": "2026-11-22T23:59:59Z", "held": 1},
		"Monday": {"now": "2026-11-23T00:00:00Z", "held": 0},
	}
	count(freeze_window.delay) == case.held with input as _with([{"weekdays": ["Sat", "Sun"]}]) with time.now_ns as _at(case.now)
}

test_from_alone_lasts_until_midnight if {
	count(freeze_window.delay) == 1 with input as _with([{"from": "12:00"}]) with time.now_ns as _monday
	freeze_window.delay == set() with input as _with([{"from": "12:01"}]) with time.now_ns as _monday
}

test_time_zone_moves_days_and_times if {
	tokyo := [{"weekdays": ["Mon"], "from": "21:00", "to": "21:01", "time_zone": "Asia/Tokyo"}]
	count(freeze_window.delay) == 1 with input as _with(tokyo) with time.now_ns as _monday
	auckland := [{"weekdays": ["Tue"], "from": "01:00", "to": "02:00", "time_zone": "Pacific/Auckland"}]
	count(freeze_window.delay) == 1 with input as _with(auckland) with time.now_ns as _monday
}

test_time_zone_follows_summer_time if {
	berlin := [{"from": "14:00", "to": "15:00", "time_zone": "Europe/Berlin"}]
	count(freeze_window.delay) == 1 with input as _with(berlin) with time.now_ns as _at("2026-07-01T12:30:00Z")
	count(freeze_window.delay) == 1 with input as _with(berlin) with time.now_ns as _at("2026-12-01T13:30:00Z")
}

test_absolute_window_begins_at_from_and_ends_before_until[instant] if {
	some instant, held in {
		"2026-12-23T22:59:59Z": 0,
		"2026-12-23T23:00:00Z": 1,
		"2027-01-01T23:59:59Z": 1,
		"2027-01-02T00:00:00Z": 0,
	}
	windows := [{"from": "2026-12-24T00:00:00+01:00", "until": "2027-01-02T00:00:00Z"}]
	count(freeze_window.delay) == held with input as _with(windows) with time.now_ns as _at(instant)
}

test_absolute_window_may_lack_an_end if {
	reason := "freeze window 2 (from 2026-11-01T00:00:00Z) holds evictions by karpenter in namespace shop; try again after it, or change parameter windows"
	windows := [{"until": "2026-11-01T00:00:00Z"}, {"from": "2026-11-01T00:00:00Z"}]
	_reasons(freeze_window.delay) == {reason} with input as _with(windows) with time.now_ns as _monday
}

test_only_evictors_and_namespaces_that_are_named[name] if {
	some name, case in {
		"evictor": {"scope": {"evictors": ["karpenter"]}, "held": 1},
		"other evictor": {"scope": {"evictors": ["user"]}, "held": 0},
		"no evictor": {"scope": {"evictors": []}, "held": 0},
		"namespace": {"scope": {"namespaces": ["pay", "shop"]}, "held": 1},
		"beginning": {"scope": {"namespaces": ["sh*"]}, "held": 1},
		"beginning that is the name": {"scope": {"namespaces": ["shop*"]}, "held": 1},
		"other namespace": {"scope": {"namespaces": ["sh", "shops*", ""]}, "held": 0},
		"part of an evictor": {"scope": {"evictors": ["karp", "karpenter*", ""]}, "held": 0},
		"no namespace": {"scope": {"namespaces": []}, "held": 0},
		"both": {"scope": {"evictors": ["karpenter"], "namespaces": ["*"]}, "held": 1},
		"one of both": {"scope": {"evictors": ["karpenter"], "namespaces": ["pay"]}, "held": 0},
	}
	windows := [object.union({"from": "00:00"}, case.scope)]
	count(freeze_window.delay) == case.held with input as _with(windows) with time.now_ns as _monday
	freeze_window.invalid_parameters == set() with input as _with(windows)
}

test_refuses_window_that_cannot_be_read[name] if {
	some name, case in {
		"empty": [{}, "never opens: it needs weekdays, from, to or until"],
		"only a zone": [{"time_zone": "UTC"}, "never opens: it needs weekdays, from, to or until"],
		"time": [{"from": "8:00"}, "begins at 8:00, which is neither a time of day such as 22:00 nor an instant such as 2027-01-02T08:00:00+01:00"],
		"hour": [{"from": "24:01"}, "begins at 24:01, which is neither a time of day"],
		"day": [{"weekdays": ["Mon", "Funday"]}, "has weekday Funday, which is none; write it as Mon or Monday"],
		"part of a day": [{"weekdays": ["Mo"]}, "has weekday Mo, which is none"],
		"zone": [{"from": "00:00", "time_zone": "Europe/Berln"}, "has time zone Europe/Berln, which is not known; name one such as Europe/Berlin"],
		"part of a zone": [{"from": "00:00", "time_zone": "Europe"}, "has time zone Europe, which"],
		"zones": [{"from": "00:00", "time_zone": "Africa/Abidjan,Africa/Accra"}, "has time zone"],
		"no zone": [{"from": "00:00", "time_zone": ""}, "has time zone"],
		"thirtieth of February": [{"from": "2026-02-30T00:00:00Z"}, "begins at 2026-02-30T00:00:00Z, which is neither"],
		"no leap year": [{"until": "2027-02-29T00:00:00Z"}, "lasts until 2027-02-29T00:00:00Z, which is not an instant such as 2027-01-02T08:00:00+01:00"],
		"thirty-first of April": [{"until": "2027-04-31T00:00:00Z"}, "which is not an instant"],
		"date alone": [{"until": "2027-01-01"}, "which is not an instant"],
		"far future": [{"until": "9999-01-01T00:00:00Z"}, "which is not an instant"],
		"mixed": [{"from": "22:00", "until": "2027-01-01T00:00:00Z"}, "lasts until an instant, but begins at a time of day, 22:00; give from as an instant, or to instead of until"],
		"weekdays with until": [{"weekdays": ["Mon"], "until": "2027-01-01T00:00:00Z"}, "is absolute, by an instant in from or until, and cannot have weekdays"],
		"time of day with an instant": [{"from": "2027-01-01T00:00:00Z", "to": "06:00"}, "and cannot have to"],
		"zone with an instant": [{"from": "2027-01-01T00:00:00Z", "time_zone": "UTC"}, "and cannot have time_zone"],
		"no time at all": [{"from": "2027-01-01T00:00:00Z", "until": "2027-01-01T01:00:00+01:00"}, "ends before it begins, so it never opens"],
	}
	some refusal in freeze_window.invalid_parameters with input as _with([case[0]])
	startswith(refusal, "freeze window 1 ")
	contains(refusal, case[1])
}

test_refusal_calls_the_window_by_its_name if {
	refusals := {"freeze window nights has time zone CEST, which is not known; name one such as Europe/Berlin"}
	freeze_window.invalid_parameters == refusals with input as _with([{"name": "nights", "from": "22:00", "time_zone": "CEST"}])
}

test_all_that_is_wrong_is_told_at_once if {
	windows := [{"weekdays": ["x"], "time_zone": "y"}, {"from": "00:00"}, {"from": "noon"}]
	count(freeze_window.invalid_parameters) == 3 with input as _with(windows)
}

test_leap_day_is_read if {
	count(freeze_window.delay) == 1 with input as _with([{"until": "2028-02-29T00:00:00Z"}]) with time.now_ns as _monday
}

test_optional_parts_missing if {
	windows := [{"from": "00:00"}]
	eviction := {"request": {"namespace": "", "evictor": ""}, "pod": null, "owner": null, "parameters": {"windows": windows}}
	count(freeze_window.delay) == 1 with input as eviction with time.now_ns as _monday
}

test_two_windows_at_once if {
	windows := [{"name": "a", "from": "00:00"}, {"name": "b", "weekdays": ["Mon"]}, {"name": "c", "from": "13:00"}]
	{violation.detail.window | some violation in freeze_window.delay} == {"a", "b"} with input as _with(windows) with time.now_ns as _monday
}
