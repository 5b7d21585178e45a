package eviction.protected_namespaces_test

import data.eviction.protected_namespaces

_with(namespace, parameters) := {
	"request": {"namespace": namespace},
	"namespace": {"labels": {"tier": "critical", "team": "shop"}},
	"pod": {"spec": {"priority": 1000}},
	"owner": {"kind": "Deployment", "name": "web"},
	"parameters": object.union(_defaults, parameters),
}

_defaults := {
	"namespaces": ["kube-system", "kube-public", "kube-node-lease"],
	"namespace_prefixes": [],
	"namespace_labels": {},
}

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_ordinary_namespace if {
	protected_namespaces.deny == set() with input as _with("shop", {})
}

test_denies_system_namespaces_by_default[namespace] if {
	some namespace in ["kube-system", "kube-public", "kube-node-lease"]
	reason := $"namespace {namespace} is protected by name, so its pods may not be evicted; take it out of parameter namespaces to allow it"
	protected_namespaces.deny == {{"reason": reason, "detail": {"namespace": namespace}}} with input as _with(namespace, {})
}

test_names_replace_the_default if {
	protected_namespaces.deny == set() with input as _with("kube-system", {"namespaces": ["shop"]})
	count(protected_namespaces.deny) == 1 with input as _with("shop", {"namespaces": ["shop"]})
	protected_namespaces.deny == set() with input as _with("kube-system", {"namespaces": []})
}

test_denies_prefix if {
	reason := "namespace openshift-dns is protected by prefix openshift-, so its pods may not be evicted; take it out of parameter namespace_prefixes to allow it"
	_reasons(protected_namespaces.deny) == {reason} with input as _with("openshift-dns", {"namespace_prefixes": ["openshift-"]})
	protected_namespaces.deny == set() with input as _with("openshift", {"namespace_prefixes": ["openshift-"]})
}

test_denies_label if {
	reason := "namespace shop is protected by label tier=critical, so its pods may not be evicted; remove the label to allow it"
	_reasons(protected_namespaces.deny) == {reason} with input as _with("shop", {"namespace_labels": {"tier": "critical", "team": "other"}})
	protected_namespaces.deny == set() with input as _with("shop", {"namespace_labels": {"tier": "", "zone": "critical"}})
}

test_boundary_of_min_priority if {
	reason := "Deployment shop/web runs at priority 1000, and pods at 1000 or above may not be evicted; lower its priority class or raise parameter min_priority to allow it"
	detail := {"priority": 1000, "min_priority": 1000}
	protected_namespaces.deny == {{"reason": reason, "detail": detail}} with input as _with("shop", {"min_priority": 1000})
	protected_namespaces.deny == set() with input as _with("shop", {"min_priority": 1001})
}

test_optional_parts_missing[name] if {
	some name, pod in {"no priority": {"spec": {}}, "null": {"spec": {"priority": null}}, "no pod": null}
	eviction := {
		"request": {"namespace": "shop"}, "namespace": null, "pod": pod, "owner": null,
		"parameters": {"namespaces": [], "namespace_prefixes": [], "namespace_labels": {"tier": "critical"}, "min_priority": 0},
	}
	protected_namespaces.deny == set() with input as eviction
}

test_bare_pod_at_priority if {
	reason := "the pod runs at priority 1000, and pods at -5 or above may not be evicted; lower its priority class or raise parameter min_priority to allow it"
	eviction := object.union(_with("shop", {"min_priority": -5}), {"owner": null})
	_reasons(protected_namespaces.deny) == {reason} with input as eviction
}

test_everything_that_matches_is_told if {
	parameters := {
		"namespace_prefixes": ["kube-", "kube-s"],
		"namespace_labels": {"tier": "critical", "team": "shop"},
		"min_priority": 0,
	}
	count(protected_namespaces.deny) == 6 with input as _with("kube-system", parameters)
}
