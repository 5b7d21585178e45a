# METADATA
# title: Require a budget of workloads with replicas
# description: |
#   Tells that no PodDisruptionBudget selects the pods of a workload that has more than one replica, so
#   that a drain may take them all at once. Deployments, StatefulSets, ReplicaSets and
#   ReplicationControllers are looked at; jobs, DaemonSets, pods without an owner and kinds whose
#   replicas are not known are left alone.
#
#   Parameters:
#
#   - `min_replicas`: from how many replicas on a workload needs a budget, a whole number; 2 by default.
#   - `effect`: `warn` (the default) or `deny` (no pod of the workload goes before there is a budget).
# related_resources:
#   - description: Specifying a Disruption Budget for your Application
#     ref: https://kubernetes.io/docs/tasks/run-application/configure-pdb/
#   - description: Disruptions, and how to plan for them
#     ref: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
# custom:
#   id: require_budget
#   enforcement: warn
#   default: true
package eviction.require_budget

deny contains violation if {
	input.parameters.effect == "deny"
	some violation in _findings
}

warn contains violation if {
	some violation in _findings
	not input.parameters.effect == "deny"
}

warn contains {"reason": reason, "detail": {"parameter": "effect"}} if {
	effect := input.parameters.effect
	not effect in {"warn", "deny"}
	reason := "parameter effect is neither warn nor deny, so require_budget warns; correct it"
}

warn contains {"reason": reason, "detail": {"parameter": "min_replicas"}} if {
	min_replicas := input.parameters.min_replicas
	not _whole(min_replicas)
	reason := "parameter min_replicas is not a whole number, so require_budget asks from 2 replicas on; correct it"
}

_findings contains {"reason": reason, "detail": detail} if {
	count(input.budgets) == 0
	input.owner.kind in {"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"}
	replicas := input.owner.replicas
	is_number(replicas)
	replicas >= _min_replicas
	reason := $"{input.owner.kind} {_namespace}/{input.owner.name} has {replicas} replicas and no PodDisruptionBudget, so a drain may take them all at once; {_cure}"
	detail := {"replicas": replicas, "min_replicas": _min_replicas}
}

default _min_replicas := 2

_min_replicas := min_replicas if {
	min_replicas := input.parameters.min_replicas
	_whole(min_replicas)
}

_whole(x) if {
	is_number(x)
	x == floor(x)
	x >= 0
}

_namespace := input.request.namespace

_cure := $"create one: kubectl create poddisruptionbudget {input.owner.name} -n {_namespace} --selector={_selector} --max-unavailable=1"

default _selector := "LABEL=VALUE"

_selector := $"app={label}" if {
	label := input.pod.metadata.labels.app
} else := $"app.kubernetes.io/name={label}" if {
	label := input.pod.metadata.labels["app.kubernetes.io/name"]
}
