# METADATA
# title: Protect namespaces and high priorities
# description: |
#   Denies the eviction of pods in protected namespaces, and of pods at or above a priority. One match
#   is enough. Bind it with `spec.match.excludes` to let an administrator pass.
#
#   Parameters:
#
#   - `namespaces`: names of namespaces; `kube-system`, `kube-public` and `kube-node-lease` by default.
#   - `namespace_prefixes`: beginnings of such names, for example `openshift-`; none by default.
#   - `namespace_labels`: labels of which a namespace has at least one, as `key: value`; none by default.
#   - `min_priority`: the priority from which pods are protected, for example 2000000000, that of
#     `system-cluster-critical`; none by default.
#
#   A parameter of another type is told as a warning, and its default is used.
# related_resources:
#   - description: Pod Priority and Preemption
#     ref: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
#   - description: Initial namespaces
#     ref: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
# custom:
#   id: protected_namespaces
#   enforcement: enforce
package eviction.protected_namespaces

deny contains {"reason": reason, "detail": {"namespace": namespace}} if {
	namespace := input.request.namespace
	namespace in _namespaces
	reason := $"namespace {namespace} is protected by name, so its pods may not be evicted; take it out of parameter namespaces to allow it"
}

deny contains {"reason": reason, "detail": {"namespace": namespace, "prefix": prefix}} if {
	namespace := input.request.namespace
	some prefix in _prefixes
	startswith(namespace, prefix)
	reason := $"namespace {namespace} is protected by prefix {prefix}, so its pods may not be evicted; take it out of parameter namespace_prefixes to allow it"
}

deny contains {"reason": reason, "detail": {"namespace": namespace, "label": label}} if {
	namespace := input.request.namespace
	some key, value in _labels
	input.namespace.labels[key] == value
	label := $"{key}={value}"
	reason := $"namespace {namespace} is protected by label {label}, so its pods may not be evicted; remove the label to allow it"
}

deny contains {"reason": reason, "detail": {"priority": priority, "min_priority": _min_priority}} if {
	priority := input.pod.spec.priority
	priority >= _min_priority
	reason := $"{_subject} at priority {priority}, and pods at {_min_priority} or above may not be evicted; lower its priority class or raise parameter min_priority to allow it"
}

warn contains {"reason": reason, "detail": {"parameter": name}} if {
	some name, value in input.parameters
	expected := _expected(name, value)
	reason := $"parameter {name} is not {expected}, so its default is used; correct it"
}

default _namespaces := ["kube-system", "kube-public", "kube-node-lease"]

_namespaces := input.parameters.namespaces if _names(input.parameters.namespaces)

default _prefixes := []

_prefixes := input.parameters.namespace_prefixes if _names(input.parameters.namespace_prefixes)

default _labels := {}

_labels := input.parameters.namespace_labels if _pairs(input.parameters.namespace_labels)

_min_priority := input.parameters.min_priority if is_number(input.parameters.min_priority)

_subject := $"{input.owner.kind} {input.request.namespace}/{input.owner.name} runs" if input.owner.name

_subject := "the pod runs" if not input.owner.name

# What a parameter should be, if it is not.
_expected("namespaces", value) := "a list of names" if not _names(value)

_expected("namespace_prefixes", value) := "a list of prefixes" if not _names(value)

_expected("namespace_labels", value) := "a map of labels" if not _pairs(value)

_expected("min_priority", value) := "a number" if not is_number(value)

# An empty prefix would protect every namespace; it is a mistake.
_names(list) if {
	is_array(list)
	every name in list {
		is_string(name)
		name != ""
	}
}

_pairs(labels) if {
	is_object(labels)
	every value in labels {
		is_string(value)
	}
}
