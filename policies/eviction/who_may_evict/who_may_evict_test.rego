package eviction.who_may_evict_test

import data.eviction.who_may_evict as policy

_with(rules) := {
	"request": {
		"namespace": "payments",
		"evictor": "descheduler",
		"user": {
			"username": "system:serviceaccount:kube-system:descheduler",
			"groups": ["system:serviceaccounts", "system:authenticated"],
		},
	},
	"pod": {"metadata": {"labels": {"tier": "db", "app": "ledger"}}},
	"owner": {"kind": "StatefulSet", "name": "ledger"},
	"parameters": {"rules": rules},
}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_reasons(violations) := {violation.reason | some violation in violations}

_admins := {"groups": ["pay-admins"]}

test_everybody_may_evict_without_rules if {
	policy.deny == set() with input as _with([])
}

test_denies_who_is_not_allowed if {
	reason := "StatefulSet payments/ledger may be evicted only by group pay-admins (rule money); let one of them do it, or change parameter rules"
	detail := {"rule": "money", "username": "system:serviceaccount:kube-system:descheduler", "evictor": "descheduler"}
	policy.deny == {{"reason": reason, "detail": detail}} with input as _with([{"name": "money", "namespaces": ["payments"], "allow": _admins}])
}

test_admits_who_is_allowed[name] if {
	some name, allow in {
		"user": {"users": ["jane", "system:serviceaccount:kube-system:descheduler"]},
		"beginning of a user": {"users": ["system:serviceaccount:kube-system:*"]},
		"group": {"groups": ["system:serviceaccounts"]},
		"beginning of a group": {"groups": ["system:auth*"]},
		"service account": {"service_accounts": ["kube-system/descheduler"]},
		"all service accounts of a namespace": {"service_accounts": ["kube-system/*"]},
		"evictor": {"evictors": ["karpenter", "descheduler"]},
		"everybody": {"users": ["*"]},
		"one of several": {"users": ["jane"], "groups": ["pay-admins"], "evictors": ["descheduler"]},
	}
	policy.deny == set() with input as _with([{"allow": allow}])
}

test_denies_near_misses[name] if {
	some name, allow in {
		"part of a user": {"users": ["system:serviceaccount:kube-system"]},
		"end of a user": {"users": ["descheduler"]},
		"group as user": {"users": ["system:authenticated"]},
		"user as group": {"groups": ["system:serviceaccount:kube-system:descheduler"]},
		"service account of another namespace": {"service_accounts": ["default/descheduler", "kube/*"]},
		"other evictor": {"evictors": ["user", "desched"]},
		"empty lists": {"users": [], "groups": [], "service_accounts": [], "evictors": []},
	}
	count(policy.deny) == 1 with input as _with([{"allow": allow}])
}

test_nobody_is_allowed if {
	reason := "StatefulSet payments/ledger may be evicted by nobody (rule 1); change parameter rules to allow it"
	_reasons(policy.deny) == {reason} with input as _with([{"allow": {}}])
}

test_rule_covers_what_it_names[name] if {
	some name, case in {
		"everything": {"rule": {}, "held": 1},
		"namespace": {"rule": {"namespaces": ["shop", "payments"]}, "held": 1},
		"beginning of a namespace": {"rule": {"namespaces": ["pay*"]}, "held": 1},
		"other namespace": {"rule": {"namespaces": ["pay", "payments-test"]}, "held": 0},
		"label": {"rule": {"pod_labels": {"tier": "db"}}, "held": 1},
		"two labels": {"rule": {"pod_labels": {"tier": "db", "app": "ledger"}}, "held": 1},
		"one of two labels": {"rule": {"pod_labels": {"tier": "db", "app": "web"}}, "held": 0},
		"label it has not": {"rule": {"pod_labels": {"zone": "db"}}, "held": 0},
		"both": {"rule": {"namespaces": ["payments"], "pod_labels": {"tier": "db"}}, "held": 1},
		"one of both": {"rule": {"namespaces": ["shop"], "pod_labels": {"tier": "db"}}, "held": 0},
	}
	count(policy.deny) == case.held with input as _with([object.union(case.rule, {"allow": _admins})])
}

test_every_rule_that_covers_must_allow if {
	rules := [
		{"allow": {"evictors": ["descheduler"]}},
		{"namespaces": ["payments"], "allow": {"users": ["jane"], "groups": ["pay-admins"]}},
		{"name": "db", "pod_labels": {"tier": "db"}, "allow": {"service_accounts": ["dba/*"], "evictors": ["user"]}},
	]
	_reasons(policy.deny) == {
		"StatefulSet payments/ledger may be evicted only by user jane, group pay-admins (rule 2); let one of them do it, or change parameter rules",
		"StatefulSet payments/ledger may be evicted only by service account dba/*, evictor user (rule db); let one of them do it, or change parameter rules",
	} with input as _with(rules)
}

test_optional_parts_missing[name] if {
	some name, case in {
		"no owner": {"patch": {"/owner": null}, "held": 2},
		"no groups": {"patch": {"/request/user/groups": null}, "held": 2},
		"no labels": {"patch": {"/pod/metadata": {}}, "held": 1},
		"no pod": {"patch": {"/pod": null}, "held": 1},
	}
	rules := [{"allow": _admins}, {"pod_labels": {"tier": "db"}, "allow": _admins}]
	count(policy.deny) == case.held with input as _changed(_with(rules), case.patch)
}

test_bare_pod_is_the_pod if {
	reason := "the pod may be evicted only by group pay-admins (rule 1); let one of them do it, or change parameter rules"
	_reasons(policy.deny) == {reason} with input as _changed(_with([{"allow": _admins}]), {"/owner": null})
}
