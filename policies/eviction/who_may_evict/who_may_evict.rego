# METADATA
# title: Say who may evict
# description: |
#   Denies an eviction by anybody whom a rule for the pod does not allow. A rule covers the pods of some
#   namespaces, or with some labels, or both; a rule with neither covers all pods. When several cover a
#   pod, each must allow the eviction; a pod that none covers may be evicted by everybody. Names may end in
#   a *. Users, groups and service accounts are those that the API server authenticated. The kind of
#   evictor is guessed from the name of its service account, which whoever may create service accounts can
#   choose: allow kinds for convenience, and users, groups or service accounts where it must hold.
# related_resources:
#   - description: Pods that the descheduler should never evict
#     ref: https://github.com/kubernetes-sigs/descheduler/issues/992
#   - description: The descheduler evicts pods from master nodes
#     ref: https://github.com/deckhouse/deckhouse/issues/8272
#   - description: Users, groups and service accounts
#     ref: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
# custom:
#   id: who_may_evict
#   enforcement: enforce
#   parameters:
#     rules:
#       type: array
#       default: []
#       description: rules of which each that covers a pod must allow its eviction
#       items:
#         type: object
#         additionalProperties: false
#         required: [allow]
#         properties:
#           name:
#             type: string
#             minLength: 1
#             description: what to call the rule in messages; its number by default
#           namespaces:
#             type: array
#             minItems: 1
#             description: names of namespaces, one of which must be the pod's
#             items: {type: string, minLength: 1, pattern: '^[^*]*\*?$'}
#           pod_labels:
#             type: object
#             minProperties: 1
#             description: labels that the pod must have, all of them
#             additionalProperties: {type: string}
#           allow:
#             type: object
#             additionalProperties: false
#             description: who may evict the pods; nobody when it is empty
#             properties:
#               users:
#                 type: array
#                 description: names of users
#                 items: {type: string, minLength: 1, pattern: '^[^*]*\*?$'}
#               groups:
#                 type: array
#                 description: groups, one of which the user must be in
#                 items: {type: string, minLength: 1, pattern: '^[^*]*\*?$'}
#               service_accounts:
#                 type: array
#                 description: service accounts, as namespace/name
#                 items: {type: string, pattern: '^[^*/]+/([^*/]+|[^*/]*\*)$'}
#               evictors:
#                 type: array
#                 description: kinds of evictors, such as karpenter or user
#                 items: {type: string, minLength: 1, pattern: '^[^*]*\*?$'}
package eviction.who_may_evict

deny contains {"reason": reason, "detail": detail} if {
	some i, rule in input.parameters.rules
	_covers(rule)
	not _allows(rule.allow)
	told := _told[i]
	reason := $"{_subject} may be evicted {told.by} (rule {told.name}); {told.cure}"
	detail := {"rule": told.name, "username": input.request.user.username, "evictor": input.request.evictor}
}

default _subject := "the pod"

_subject := $"{input.owner.kind} {input.request.namespace}/{input.owner.name}" if input.owner.name

_covers(rule) if {
	_names_namespace(rule)
	every key, value in object.get(rule, "pod_labels", {}) {
		input.pod.metadata.labels[key] == value
	}
}

_names_namespace(rule) if not rule.namespaces

_names_namespace(rule) if {
	some pattern in rule.namespaces
	_fits(pattern, input.request.namespace)
}

_allows(allow) if {
	some pattern in allow.users
	_fits(pattern, input.request.user.username)
}

_allows(allow) if {
	some pattern in allow.groups
	some group in input.request.user.groups
	_fits(pattern, group)
}

_allows(allow) if {
	some pattern in allow.service_accounts
	_fits($"system:serviceaccount:{replace(pattern, "/", ":")}", input.request.user.username)
}

_allows(allow) if {
	some pattern in allow.evictors
	_fits(pattern, input.request.evictor)
}

_fits(pattern, name) if pattern == name

_fits(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}

# What messages say of each rule.
_told := [told |
	some i, rule in input.parameters.rules
	allowed := [$"{word} {name}" |
		some [word, key] in [["user", "users"], ["group", "groups"], ["service account", "service_accounts"], ["evictor", "evictors"]]
		some name in rule.allow[key]
	]
	told := object.union({"name": object.get(rule, "name", i + 1)}, _by(allowed))
]

_by(allowed) := {"by": $"only by {concat(", ", allowed)}", "cure": "let one of them do it, or change parameter rules"} if count(allowed) > 0

_by(allowed) := {"by": "by nobody", "cure": "change parameter rules to allow it"} if count(allowed) == 0
