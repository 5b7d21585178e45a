# METADATA
# title: Require a budget of workloads with replicas
# description: |
#   Tells that no PodDisruptionBudget selects the pods of a workload that has more than one replica, so
#   that a drain may take them all at once. Deployments, StatefulSets, ReplicaSets and
#   ReplicationControllers are looked at; jobs, DaemonSets, pods without an owner and kinds whose
#   replicas are not known are left alone.
# related_resources:
#   - description: Specifying a Disruption Budget for your Application
#     ref: https://kubernetes.io/docs/tasks/run-application/configure-pdb/
#   - description: Disruptions, and how to plan for them
#     ref: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
# custom:
#   id: require_budget
#   enforcement: warn
#   default: true
#   parameters:
#     min_replicas:
#       type: integer
#       minimum: 0
#       default: 2
#       description: from how many replicas on a workload needs a budget
#     effect:
#       type: string
#       enum: [warn, deny]
#       default: warn
#       description: whether the eviction is only told of it (warn) or refused until there is a budget (deny)
package eviction.require_budget

deny contains _finding if input.parameters.effect == "deny"

warn contains _finding if input.parameters.effect == "warn"

_finding := {"reason": reason, "detail": detail} if {
	count(input.budgets) == 0
	input.owner.kind in {"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"}
	replicas := input.owner.replicas
	is_number(replicas)
	min_replicas := input.parameters.min_replicas
	replicas >= min_replicas
	reason := $"{input.owner.kind} {_namespace}/{input.owner.name} has {replicas} replicas and no PodDisruptionBudget, so a drain may take them all at once; {_cure}"
	detail := {"replicas": replicas, "min_replicas": min_replicas}
}

_namespace := input.request.namespace

_cure := $"create one: kubectl create poddisruptionbudget {input.owner.name} -n {_namespace} --selector={_selector} --max-unavailable=1"

default _selector := "LABEL=VALUE"

_selector := $"app={label}" if {
	label := input.pod.metadata.labels.app
} else := $"app.kubernetes.io/name={label}" if {
	label := input.pod.metadata.labels["app.kubernetes.io/name"]
}
