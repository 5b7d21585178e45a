package eviction.do_not_disrupt_test

import data.eviction.do_not_disrupt

_noon := time.parse_rfc3339_ns("2026-11-23T12:00:00Z")

_with(annotations) := {
	"request": {"namespace": "shop"},
	"pod": {
		"metadata": {"annotations": annotations},
		"status": {"startTime": "2026-11-23T08:00:00Z"},
	},
	"owner": {"kind": "Deployment", "name": "web"},
	"parameters": {"effect": "delay"},
}

_reasons(violations) := {violation.reason | some violation in violations}

test_admits_pod_without_annotation if {
	pod := _with({"prometheus.io/scrape": "true"})
	do_not_disrupt.delay == set() with input as pod
	do_not_disrupt.deny == set() with input as pod
	do_not_disrupt.warn == set() with input as pod
}

test_admits_what_asks_for_nothing if {
	pod := _with({
		"karpenter.sh/do-not-disrupt": "false",
		"evictgate.dev/do-not-disrupt": "false",
		"cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
	})
	do_not_disrupt.delay == set() with input as pod
	do_not_disrupt.warn == set() with input as pod
}

test_delays_each_annotation[annotation] if {
	some annotation, value in {
		"karpenter.sh/do-not-disrupt": "true",
		"evictgate.dev/do-not-disrupt": "true",
		"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
		"descheduler.alpha.kubernetes.io/prefer-no-eviction": "true",
	}
	reason := $"Deployment shop/web is annotated {annotation}={value} on its pods; remove the annotation to let them be evicted"
	detail := {"annotation": annotation, "value": value, "until": null}
	do_not_disrupt.delay == {{"reason": reason, "detail": detail}} with input as _with({annotation: value})
}

test_delays_presence_of_prefer_no_eviction if {
	pod := _with({"descheduler.alpha.kubernetes.io/prefer-no-eviction": ""})
	count(do_not_disrupt.delay) == 1 with input as pod
}

test_denies_by_parameter if {
	pod := object.union(_with({"karpenter.sh/do-not-disrupt": "true"}), {"parameters": {"effect": "deny"}})
	count(do_not_disrupt.deny) == 1 with input as pod
	do_not_disrupt.delay == set() with input as pod
}

test_duration_holds_until_its_end if {
	pod := _with({"karpenter.sh/do-not-disrupt": "4h0m0.001s"})
	reason := "Deployment shop/web is annotated karpenter.sh/do-not-disrupt=4h0m0.001s on its pods; wait until 4h0m0.001s after their start, or remove the annotation to let them be evicted"
	detail := {"annotation": "karpenter.sh/do-not-disrupt", "value": "4h0m0.001s", "until": "2026-11-23T12:00:00.001Z"}
	do_not_disrupt.delay == {{"reason": reason, "detail": detail}} with input as pod with time.now_ns as _noon
}

test_duration_is_over_at_its_end if {
	pod := _with({"karpenter.sh/do-not-disrupt": "4h", "evictgate.dev/do-not-disrupt": "1h30m"})
	do_not_disrupt.delay == set() with input as pod with time.now_ns as _noon
	do_not_disrupt.warn == set() with input as pod with time.now_ns as _noon
}

test_duration_without_start_holds[name] if {
	some name, status in {
		"absent": {},
		"null": {"startTime": null},
		"before 1970": {"startTime": "0001-01-01T00:00:00Z"},
		"after 2200": {"startTime": "9999-12-31T00:00:00Z"},
	}
	pod := {
		"request": {"namespace": "shop"},
		"pod": {"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "4h"}}, "status": status},
		"owner": null,
		"parameters": {"effect": "delay"},
	}
	reason := "the pod is annotated karpenter.sh/do-not-disrupt=4h; wait until 4h after its start, or remove the annotation to let it be evicted"
	_reasons(do_not_disrupt.delay) == {reason} with input as pod
}

test_warns_of_value_it_cannot_read[value] if {
	some value in ["", "yes", "True", "4", "-4h", "4d", "h", "9999999999h", "99999h99999h", "4h ", "1e9s", "4h\n"]
	pod := _with({"karpenter.sh/do-not-disrupt": value, "evictgate.dev/do-not-disrupt": value})
	do_not_disrupt.delay == set() with input as pod
	count(do_not_disrupt.warn) == 2 with input as pod
}

test_warns_of_safe_to_evict_it_cannot_read if {
	pod := _with({"cluster-autoscaler.kubernetes.io/safe-to-evict": "no"})
	do_not_disrupt.delay == set() with input as pod
	reason := "annotation cluster-autoscaler.kubernetes.io/safe-to-evict=no is neither true nor false, so it protects nothing; correct it"
	_reasons(do_not_disrupt.warn) == {reason} with input as pod
}

test_longest_duration_does_not_fail if {
	pod := _with({"karpenter.sh/do-not-disrupt": "99999.999h9999999.999m999999999.999s"})
	count(do_not_disrupt.delay) == 1 with input as pod with time.now_ns as _noon
}

test_cuts_long_values if {
	long := concat("", [x | some _ in numbers.range(1, 100); x := "é"])
	pod := _with({
		"karpenter.sh/do-not-disrupt": long,
		"descheduler.alpha.kubernetes.io/prefer-no-eviction": long,
	})
	some told in do_not_disrupt.warn with input as pod
	count(told.detail.value) == 40
	some held in do_not_disrupt.delay with input as pod
	count(held.detail.value) == 40
}

test_optional_parts_missing[name] if {
	some name, pod in {
		"no annotations": {"metadata": {}, "status": {}},
		"nothing": {},
		"null": null,
	}
	do_not_disrupt.delay == set() with input as {"request": {"namespace": "shop"}, "pod": pod, "owner": null, "parameters": {"effect": "delay"}}
	do_not_disrupt.warn == set() with input as {"request": {"namespace": "shop"}, "pod": pod, "owner": null, "parameters": {"effect": "delay"}}
}

test_bare_pod_is_held if {
	pod := object.union(_with({"karpenter.sh/do-not-disrupt": "true"}), {"owner": null})
	reason := "the pod is annotated karpenter.sh/do-not-disrupt=true; remove the annotation to let it be evicted"
	_reasons(do_not_disrupt.delay) == {reason} with input as pod
}

test_two_annotations_are_both_told if {
	pod := _with({
		"karpenter.sh/do-not-disrupt": "8h",
		"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
	})
	count(do_not_disrupt.delay) == 2 with input as pod with time.now_ns as _noon
}
