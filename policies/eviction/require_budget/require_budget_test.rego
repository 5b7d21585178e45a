package eviction.require_budget_test

import data.eviction.require_budget

_with(parts) := object.union(
	{
		"request": {"namespace": "shop"},
		"owner": {"kind": "Deployment", "name": "web", "replicas": 3},
		"pod": {"metadata": {"labels": {"app": "web", "pod-template-hash": "6d4cf56db6"}}},
		"budgets": [],
		"parameters": {"min_replicas": 2, "effect": "warn"},
	},
	parts,
)

# object.union merges objects; this replaces a part, and may set it to null.
_replaced(key, value) := json.patch(_with({}), [{"op": "replace", "path": key, "value": value}])

_reasons(violations) := {violation.reason | some violation in violations}

test_warns_of_workload_without_budget[kind] if {
	some kind in ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"]
	reason := $"{kind} shop/web has 3 replicas and no PodDisruptionBudget, so a drain may take them all at once; create one: kubectl create poddisruptionbudget web -n shop --selector=app=web --max-unavailable=1"
	want := {{"reason": reason, "detail": {"replicas": 3, "min_replicas": 2}}}
	require_budget.warn == want with input as _with({"owner": {"kind": kind}})
	require_budget.deny == set() with input as _with({"owner": {"kind": kind}})
}

test_admits_workload_with_budget[name] if {
	some name, budgets in {"one": [{"name": "web"}], "two": [{"name": "a"}, {"name": "b"}]}
	require_budget.warn == set() with input as _with({"budgets": budgets})
}

test_boundary_of_two_replicas if {
	require_budget.warn == set() with input as _with({"owner": {"replicas": 0}})
	require_budget.warn == set() with input as _with({"owner": {"replicas": 1}})
	count(require_budget.warn) == 1 with input as _with({"owner": {"replicas": 2}})
}

test_boundary_by_parameter[min_replicas] if {
	some min_replicas, count_of_findings in {3: 1, 4: 0, 1: 1, 0: 1}
	count(require_budget.warn) == count_of_findings with input as _with({"parameters": {"min_replicas": min_replicas}})
}

test_leaves_other_kinds_alone[kind] if {
	some kind in ["Job", "CronJob", "DaemonSet", "Node", "Rollout"]
	require_budget.warn == set() with input as _with({"owner": {"kind": kind}})
}

test_example_names_a_label_of_the_pod[labels] if {
	some labels, selector in {
		{"app": "web", "app.kubernetes.io/name": "site"}: "app=web",
		{"app.kubernetes.io/name": "site", "tier": "front"}: "app.kubernetes.io/name=site",
		{"tier": "front"}: "LABEL=VALUE",
		{}: "LABEL=VALUE",
	}
	some reason in _reasons(require_budget.warn) with input as _replaced("pod", {"metadata": {"labels": labels}})
	contains(reason, $" --selector={selector} ")
}

test_denies_by_parameter if {
	eviction := _with({"parameters": {"effect": "deny"}})
	count(require_budget.deny) == 1 with input as eviction
	require_budget.warn == set() with input as eviction
}

test_optional_parts_missing[name] if {
	some name, eviction in {
		"bare pod": _replaced("owner", null),
		"replicas not known": _replaced("owner", {"kind": "Deployment", "name": "web", "replicas": null}),
		"no pod": json.patch(_replaced("owner", null), [{"op": "replace", "path": "pod", "value": null}]),
	}
	require_budget.warn == set() with input as eviction
	require_budget.deny == set() with input as eviction
}

test_pod_without_labels_is_told_of if {
	count(require_budget.warn) == 1 with input as _replaced("pod", {"metadata": {"labels": null}})
	count(require_budget.warn) == 1 with input as _replaced("pod", null)
}
