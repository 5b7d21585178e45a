package eviction.impossible_budget_test

import data.eviction.impossible_budget

_budget(parts) := object.union(
	{
		"name": "web", "min_available": null, "max_unavailable": null,
		"selector": {"matchLabels": {"app": "web"}}, "expected_pods": 3, "disruptions_allowed": 0,
	},
	parts,
)

_with(budgets) := {
	"request": {"namespace": "shop"},
	"owner": {"kind": "Deployment", "name": "web", "replicas": 3},
	"budgets": budgets,
	"parameters": {"effect": "warn"},
}

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_budget_that_allows_one if {
	impossible_budget.warn == set() with input as _with([_budget({"max_unavailable": "1", "disruptions_allowed": 1})])
}

test_admits_budget_that_only_blocks_now[name] if {
	some name, parts in {
		"max": {"max_unavailable": "1"},
		"max percentage": {"max_unavailable": "1%"},
		"min": {"min_available": "2"},
		"min percentage": {"min_available": "66%"},
		"allows one": {"min_available": "3", "disruptions_allowed": 1},
		"min of zero": {"min_available": "0"},
		"min of zero percent": {"min_available": "0%"},
	}
	impossible_budget.warn == set() with input as _with([_budget(parts)])
}

test_warns_of_max_unavailable_zero[max] if {
	some max in ["0", "0%"]
	reason := $"budget shop/web has maxUnavailable {max}, so it never allows an eviction; set it to 1 or more"
	detail := {"budget": "web", "max_unavailable": max}
	impossible_budget.warn == {{"reason": reason, "detail": detail}} with input as _with([_budget({"max_unavailable": max})])
}

test_warns_of_min_available_of_all[min] if {
	some min in ["3", "4", "100%", "67%", "067%"]
	reason := $"budget shop/web has minAvailable {min} for 3 pods, which is all of them, so it never allows an eviction; lower it or scale up"
	detail := {"budget": "web", "min_available": min, "pods": 3}
	impossible_budget.warn == {{"reason": reason, "detail": detail}} with input as _with([_budget({"min_available": min})])
}

test_wanted_replicas_count_when_pods_are_missing if {
	impossible_budget.warn == set() with input as _with([_budget({"min_available": "2", "expected_pods": 2})])
	count(impossible_budget.warn) == 1 with input as _with([_budget({"min_available": "4", "expected_pods": 4})])
}

test_warns_of_empty_selector if {
	reason := "budget shop/all has an empty selector, so it holds every pod of the namespace; name its pods in spec.selector"
	budget := json.patch(
		_budget({"name": "all", "max_unavailable": "1", "disruptions_allowed": 1}),
		[{"op": "replace", "path": "selector", "value": {}}],
	)
	impossible_budget.warn == {{"reason": reason, "detail": {"budget": "all"}}} with input as _with([budget])
}

test_warns_of_two_budgets if {
	reason := "Deployment shop/web is selected by 2 budgets (a, b), so the API server refuses every eviction; change their selectors until one is left"
	budgets := [_budget({"name": "a", "max_unavailable": "1"}), _budget({"name": "b", "max_unavailable": "1"})]
	impossible_budget.warn == {{"reason": reason, "detail": {"budgets": ["a", "b"]}}} with input as _with(budgets)
}

test_denies_by_parameter if {
	eviction := object.union(_with([_budget({"max_unavailable": "0"})]), {"parameters": {"effect": "deny"}})
	count(impossible_budget.deny) == 1 with input as eviction
	impossible_budget.warn == set() with input as eviction
}

test_optional_parts_missing[name] if {
	some name, eviction in {
		"no budgets": {"request": {"namespace": "shop"}, "owner": null, "budgets": [], "parameters": {"effect": "warn"}},
		"numbers not set": {"request": {"namespace": "shop"}, "owner": null, "budgets": [_budget({})], "parameters": {"effect": "warn"}},
		"no pods counted": {
			"request": {"namespace": "shop"}, "owner": null, "parameters": {"effect": "warn"},
			"budgets": [_budget({"min_available": "1", "expected_pods": 0})],
		},
		"unreadable": {
			"request": {"namespace": "shop"}, "owner": {"kind": "Rollout", "name": "web", "replicas": null},
			"budgets": [_budget({"min_available": "many", "expected_pods": 1})], "parameters": {"effect": "warn"},
		},
	}
	impossible_budget.warn == set() with input as eviction
	impossible_budget.deny == set() with input as eviction
}

test_pod_without_known_owner_is_found[name] if {
	some name, owner in {"bare": null, "replicas not known": {"kind": "Rollout", "name": "web", "replicas": null}}
	parts := [{"op": "replace", "path": "owner", "value": owner}]
	eviction := json.patch(_with([_budget({"min_available": "1", "expected_pods": 1})]), parts)
	count(impossible_budget.warn) == 1 with input as eviction
}

test_bare_pod_with_two_budgets if {
	budgets := [_budget({"name": "a", "max_unavailable": "1"}), _budget({"name": "b", "max_unavailable": "1"})]
	reason := "the pod is selected by 2 budgets (a, b), so the API server refuses every eviction; change their selectors until one is left"
	_reasons(impossible_budget.warn) == {reason} with input as object.union(_with(budgets), {"owner": null})
}

test_all_that_is_wrong_is_told_at_once if {
	everything := json.patch(_budget({"name": "all", "max_unavailable": "0"}), [{"op": "replace", "path": "selector", "value": {}}])
	count(impossible_budget.warn) == 4 with input as _with([everything, _budget({"min_available": "100%"})])
}
