package eviction.incident_freeze_test

import data.eviction.incident_freeze

_with(parameters) := {
	"request": {
		"namespace": "shop", "evictor": "karpenter",
		"user": {"username": "system:serviceaccount:karpenter:karpenter", "groups": ["system:serviceaccounts", "system:authenticated"]},
	},
	"namespace": {"annotations": {}},
	"parameters": object.union(
		{
			"active": true, "reason": "INC-4711", "namespaces_by_annotation": true,
			"allow_evictors": ["user"], "allow_groups": ["system:masters"], "allow_users": [],
		},
		parameters,
	),
}

_replaced(eviction, parts) := json.patch(eviction, [{"op": "replace", "path": path, "value": value} | some path, value in parts])

_reasons(violations) := {violation.reason | some violation in violations}

_annotated(value) := _replaced(_with({"active": false}), {"namespace/annotations": {"evictgate.dev/freeze": value}})

test_delays_automation_while_active if {
	reason := "evictions by karpenter are frozen because of INC-4711; try again when it is over, or set parameter active to false"
	incident_freeze.delay == {{"reason": reason, "detail": {"scope": "cluster", "why": "INC-4711"}}} with input as _with({})
}

test_admits_while_not_active if {
	incident_freeze.delay == set() with input as _with({"active": false})
}

test_people_pass[name] if {
	some name, parts in {
		"user": {"request/evictor": "user"},
		"administrator": {"request/user/groups": ["system:authenticated", "system:masters"]},
	}
	incident_freeze.delay == set() with input as _replaced(_with({}), parts)
}

test_who_passes_by_parameter[name] if {
	some name, case in {
		"evictor": {"parameters": {"allow_evictors": ["descheduler", "karpenter"]}, "held": 0},
		"group": {"parameters": {"allow_groups": ["sre", "system:serviceaccounts"]}, "held": 0},
		"user": {"parameters": {"allow_users": ["system:serviceaccount:karpenter:karpenter"]}, "held": 0},
		"nobody": {"parameters": {"allow_evictors": [], "allow_groups": [], "allow_users": []}, "held": 1},
		"others": {"parameters": {"allow_evictors": ["karp"], "allow_groups": ["sre"], "allow_users": ["karpenter"]}, "held": 1},
	}
	count(incident_freeze.delay) == case.held with input as _with(case.parameters)
}

test_user_is_held_when_only_groups_pass if {
	eviction := _replaced(_with({"allow_evictors": []}), {"request/evictor": "user", "request/user/groups": ["system:authenticated"]})
	count(incident_freeze.delay) == 1 with input as eviction
}

test_annotated_namespace_is_held_without_active if {
	reason := "evictions by karpenter are frozen in namespace shop by its annotation evictgate.dev/freeze=moving the database; try again when it is over, or remove the annotation"
	incident_freeze.delay == {{"reason": reason, "detail": {"scope": "namespace", "why": "moving the database"}}} with input as _annotated("moving the database")
}

test_boundary_of_annotation[value] if {
	some value, held in {"": 1, "true": 1, "no": 1, "false": 0}
	count(incident_freeze.delay) == held with input as _annotated(value)
}

test_people_pass_in_annotated_namespace if {
	incident_freeze.delay == set() with input as _replaced(_annotated("why"), {"request/evictor": "user"})
}

test_annotation_is_ignored_by_parameter if {
	incident_freeze.delay == set() with input as _replaced(_annotated("why"), {"parameters/namespaces_by_annotation": false})
}

test_long_annotation_is_cut if {
	long := concat("", [x | some _ in numbers.range(1, 300); x := "é"])
	some held in incident_freeze.delay with input as _annotated(long)
	count(held.detail.why) == 200
}

test_active_and_annotation_are_both_told if {
	count(incident_freeze.delay) == 2 with input as _replaced(_annotated("why"), {"parameters/active": true})
}

test_optional_parts_missing[name] if {
	some name, parts in {
		"no annotations": {"namespace/annotations": null},
		"no namespace": {"namespace": null},
		"no groups": {"request/user/groups": []},
		"no user": {"request/user": {"username": "", "groups": []}},
	}
	count(incident_freeze.delay) == 1 with input as _replaced(_with({}), parts)
	incident_freeze.delay == set() with input as _replaced(_with({"active": false}), parts)
}

test_active_wants_a_reason if {
	refusals := {"parameter reason is missing: say why evictions are held, for example INC-4711, or set active to false"}
	incident_freeze.invalid_parameters == refusals with input as {"parameters": {"active": true}}
	incident_freeze.invalid_parameters == set() with input as {"parameters": {"active": false}}
	incident_freeze.invalid_parameters == set() with input as {"parameters": {"active": true, "reason": "INC-4711"}}
}
