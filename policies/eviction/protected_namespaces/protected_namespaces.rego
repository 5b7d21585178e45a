# METADATA
# title: Protect namespaces and high priorities
# description: |
#   Denies the eviction of pods in protected namespaces, and of pods at or above a priority. One match
#   is enough. Bind it with `spec.match.excludes` to let an administrator pass.
# related_resources:
#   - description: Pod Priority and Preemption
#     ref: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
#   - description: Initial namespaces
#     ref: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
# custom:
#   id: protected_namespaces
#   enforcement: enforce
#   parameters:
#     namespaces:
#       type: array
#       items: {type: string, minLength: 1}
#       default: [kube-system, kube-public, kube-node-lease]
#       description: names of protected namespaces
#     namespace_prefixes:
#       type: array
#       items: {type: string, minLength: 1}
#       default: []
#       description: beginnings of such names, for example openshift-
#     namespace_labels:
#       type: object
#       additionalProperties: {type: string}
#       default: {}
#       description: labels of which a protected namespace has at least one
#     min_priority:
#       type: integer
#       description: the priority from which pods are protected, for example 2000000000, that of system-cluster-critical; none by default
package eviction.protected_namespaces

deny contains {"reason": reason, "detail": {"namespace": namespace}} if {
	namespace := input.request.namespace
	namespace in input.parameters.namespaces
	reason := $"namespace {namespace} is protected by name, so its pods may not be evicted; take it out of parameter namespaces to allow it"
}

deny contains {"reason": reason, "detail": {"namespace": namespace, "prefix": prefix}} if {
	some prefix in input.parameters.namespace_prefixes
	namespace := input.request.namespace
	startswith(namespace, prefix)
	reason := $"namespace {namespace} is protected by prefix {prefix}, so its pods may not be evicted; take it out of parameter namespace_prefixes to allow it"
}

deny contains {"reason": reason, "detail": {"namespace": namespace, "label": label}} if {
	some key, value in input.parameters.namespace_labels
	input.namespace.labels[key] == value
	namespace := input.request.namespace
	label := $"{key}={value}"
	reason := $"namespace {namespace} is protected by label {label}, so its pods may not be evicted; remove the label to allow it"
}

deny contains {"reason": reason, "detail": {"priority": priority, "min_priority": min_priority}} if {
	min_priority := input.parameters.min_priority
	priority := input.pod.spec.priority
	is_number(priority)
	priority >= min_priority
	reason := $"{_subject} at priority {priority}, and pods at {min_priority} or above may not be evicted; lower its priority class or raise parameter min_priority to allow it"
}

_subject := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} runs" if input.owner.name

_subject := "the pod runs" if not input.owner.name
