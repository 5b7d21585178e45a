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

test_admits_without_windows[name] if {
	some name, parameters in {"none": {}, "empty": {"windows": []}}
	eviction := {"request": {"namespace": "shop", "evictor": "user"}, "parameters": parameters}
	freeze_window.delay == set() with input as eviction with time.now_ns as _monday
	freeze_window.warn == set() with input as eviction with time.now_ns as _monday
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
		"other namespace": {"scope": {"namespaces": ["sh", "shops*"]}, "held": 0},
		"no namespace": {"scope": {"namespaces": []}, "held": 0},
		"both": {"scope": {"evictors": ["karpenter"], "namespaces": ["*"]}, "held": 1},
		"one of both": {"scope": {"evictors": ["karpenter"], "namespaces": ["pay"]}, "held": 0},
	}
	windows := [object.union({"from": "00:00"}, case.scope)]
	count(freeze_window.delay) == case.held with input as _with(windows) with time.now_ns as _monday
	freeze_window.warn == set() with input as _with(windows) with time.now_ns as _monday
}

test_window_that_cannot_be_read_is_told_and_holds_nothing[name] if {
	some name, window in {
		"string": "weekends",
		"null": null,
		"number": 7,
		"empty": {},
		"only a name": {"name": "x"},
		"unknown key": {"from": "00:00", "timezone": "UTC"},
		"time": {"from": "8:00"},
		"hour": {"from": "24:01"},
		"number for time": {"from": 800},
		"null for time": {"from": "00:00", "to": null},
		"day": {"weekdays": ["Mon", "Funday"]},
		"string for days": {"weekdays": "Mon"},
		"no days": {"weekdays": []},
		"number for day": {"weekdays": [1]},
		"false for days": {"weekdays": false, "from": "00:00"},
		"zone": {"from": "00:00", "time_zone": "Europe/Berln"},
		"part of a zone": {"from": "00:00", "time_zone": "Europe"},
		"zones": {"from": "00:00", "time_zone": "Africa/Abidjan,Africa/Accra"},
		"no zone": {"from": "00:00", "time_zone": ""},
		"zone number": {"from": "00:00", "time_zone": 1},
		"thirtieth of February": {"from": "2026-02-30T00:00:00Z"},
		"no leap year": {"until": "2027-02-29T00:00:00Z"},
		"thirty-first of April": {"until": "2027-04-31T00:00:00Z"},
		"date alone": {"until": "2027-01-01"},
		"far future": {"until": "9999-01-01T00:00:00Z"},
		"null for until": {"from": "2026-02-03T00:00:00Z", "until": null},
		"mixed": {"from": "22:00", "until": "2027-01-01T00:00:00Z"},
		"weekdays with until": {"weekdays": ["Mon"], "until": "2027-01-01T00:00:00Z"},
		"evictors": {"from": "00:00", "evictors": "karpenter"},
		"namespaces": {"from": "00:00", "namespaces": [1]},
	}
	freeze_window.delay == set() with input as _with([window]) with time.now_ns as _monday
	count(freeze_window.warn) == 1 with input as _with([window]) with time.now_ns as _monday
}

test_windows_that_are_no_list_are_told[name] if {
	some name, windows in {"string": "x", "object": {"from": "00:00"}, "number": 1, "null": null, "false": false}
	freeze_window.delay == set() with input as _with(windows) with time.now_ns as _monday
	reason := "parameter windows is not a list, so freeze_window holds nothing; correct it"
	_reasons(freeze_window.warn) == {reason} with input as _with(windows) with time.now_ns as _monday
}

test_leap_day_is_read if {
	count(freeze_window.delay) == 1 with input as _with([{"until": "2028-02-29T00:00:00Z"}]) with time.now_ns as _monday
}

test_optional_parts_missing if {
	freeze_window.delay == set() with input as {"request": {}, "parameters": {}}
	freeze_window.warn == set() with input as {"request": {}, "parameters": {}}
}

test_two_windows_and_a_broken_one_at_once if {
	windows := [{"name": "a", "from": "00:00"}, {"name": "b", "weekdays": ["Mon"]}, {"from": "noon"}]
	count(freeze_window.delay) == 2 with input as _with(windows) with time.now_ns as _monday
	_reasons(freeze_window.warn) == {"freeze window 3 cannot be read, so it holds nothing; correct it in parameter windows"} with input as _with(windows) with time.now_ns as _monday
}
