# METADATA
# title: Find budgets that can never allow an eviction
# description: |
#   Tells that the pod's PodDisruptionBudgets block every eviction, however healthy the workload is, so
#   that somebody fixes them before a node drain hangs: `maxUnavailable` of 0, `minAvailable` of all
#   pods or more, a percentage that rounds up to all pods, an empty selector, which makes the budget
#   hold every pod of the namespace, and two budgets on one pod, which the API server does not support.
# related_resources:
#   - description: Specifying a Disruption Budget for your Application
#     ref: https://kubernetes.io/docs/tasks/run-application/configure-pdb/
#   - description: API-initiated Eviction
#     ref: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
# custom:
#   id: impossible_budget
#   enforcement: warn
#   default: true
#   parameters:
#     effect:
#       type: string
#       enum: [warn, deny]
#       default: warn
#       description: whether the eviction is only told of it (warn) or refused for good, so that the client does not retry (deny)
package eviction.impossible_budget

deny contains violation if {
	input.parameters.effect == "deny"
	some violation in _findings
}

warn contains violation if {
	input.parameters.effect == "warn"
	some violation in _findings
}

_findings contains _finding(budget) if {
	some budget in input.budgets

	# A budget that allows an eviction now is not impossible.
	budget.disruptions_allowed <= 0
}

_findings contains {"reason": reason, "detail": {"budget": budget.name}} if {
	some budget in input.budgets
	is_object(budget.selector)
	count(budget.selector) == 0
	reason := $"budget {_named(budget)} has an empty selector, so it holds every pod of the namespace; name its pods in spec.selector"
}

_findings contains {"reason": reason, "detail": {"budgets": names}} if {
	input.budgets[1]
	names := [budget.name | some budget in input.budgets]
	list := concat(", ", names)
	reason := $"{_subject} selected by {count(names)} budgets ({list}), so the API server refuses every eviction; change their selectors until one is left"
}

_finding(budget) := {"reason": reason, "detail": detail} if {
	budget.max_unavailable in {"0", "0%"}
	reason := $"budget {_named(budget)} has maxUnavailable {budget.max_unavailable}, so it never allows an eviction; set it to 1 or more"
	detail := {"budget": budget.name, "max_unavailable": budget.max_unavailable}
}

_finding(budget) := {"reason": reason, "detail": detail} if {
	minimum := budget.min_available
	is_string(minimum)
	pods := _pods(budget)
	_needs_all(minimum, pods)
	reason := $"budget {_named(budget)} has minAvailable {minimum} for {pods} pods, which is all of them, so it never allows an eviction; lower it or scale up"
	detail := {"budget": budget.name, "min_available": minimum, "pods": pods}
}

_needs_all(minimum, pods) if {
	regex.match(`^[0-9]{1,9}$`, minimum)
	to_number(minimum) >= pods
}

# The API server rounds a percentage up.
_needs_all(minimum, pods) if {
	regex.match(`^[0-9]{1,9}%$`, minimum)
	to_number(trim_suffix(minimum, "%")) * pods > (pods - 1) * 100
}

# How many pods the budget is for. Its status may count too few for a moment, as after the loss of a
# node, so that the wanted replicas count when they are more. No number, no finding.
_pods(budget) := pods if {
	pods := max([budget.expected_pods, _wanted])
	pods > 0
}

default _wanted := 0

_wanted := input.owner.replicas if is_number(input.owner.replicas)

_named(budget) := $"{input.request.namespace}/{budget.name}"

_subject := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} is" if input.owner.name

_subject := "the pod is" if not input.owner.name
