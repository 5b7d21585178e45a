# METADATA
# title: Freeze automation during an incident
# description: |
#   Delays evictions by automation while it is bound and active, so that nothing moves while people look
#   for the cause; people pass. Bound with `active: false` it is a switch that is ready to be thrown. A
#   namespace can be frozen by itself, by the annotation `evictgate.dev/freeze` whose value says why;
#   `false` asks for nothing. People are told from automation by the kind of evictor, which is `user`
#   for everything that is not a known client, service account or node: where automation has a user of its
#   own, leave `user` out and name the people by group.
# related_resources:
#   - description: One switch that stops disruption, as asked of Karpenter
#     ref: https://github.com/kubernetes-sigs/karpenter/issues/2497
#   - description: API-initiated Eviction
#     ref: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
# custom:
#   id: incident_freeze
#   enforcement: enforce
#   parameters:
#     active:
#       type: boolean
#       default: true
#       description: whether evictions are held everywhere, and not in annotated namespaces alone
#     reason:
#       type: string
#       minLength: 1
#       maxLength: 200
#       examples: [INC-4711]
#       description: why evictions are held, for example the number of the incident; wanted while active
#     allow_evictors:
#       type: array
#       items: {type: string, minLength: 1}
#       default: [user]
#       description: kinds of evictors that pass, as in input.request.evictor
#     allow_groups:
#       type: array
#       items: {type: string, minLength: 1}
#       default: [system:masters]
#       description: groups whose users pass
#     allow_users:
#       type: array
#       items: {type: string, minLength: 1}
#       default: []
#       description: names of users that pass
#     namespaces_by_annotation:
#       type: boolean
#       default: true
#       description: whether namespaces with the annotation evictgate.dev/freeze are held
package eviction.incident_freeze

delay contains {"reason": reason, "detail": {"scope": "cluster", "why": why}} if {
	input.parameters.active == true
	not _passes
	why := input.parameters.reason
	reason := $"evictions by {input.request.evictor} are frozen because of {why}; try again when it is over, or set parameter active to false"
}

delay contains {"reason": reason, "detail": {"scope": "namespace", "why": why}} if {
	input.parameters.namespaces_by_annotation == true
	annotation := input.namespace.annotations["evictgate.dev/freeze"]
	annotation != "false"
	not _passes
	why := substring(annotation, 0, 200)
	reason := $"evictions by {input.request.evictor} are frozen in namespace {input.request.namespace} by its annotation evictgate.dev/freeze={why}; try again when it is over, or remove the annotation"
}

invalid_parameters contains "parameter reason is missing: say why evictions are held, for example INC-4711, or set active to false" if {
	input.parameters.active
	not input.parameters.reason
}

_passes if input.request.evictor in input.parameters.allow_evictors

_passes if input.request.user.username in input.parameters.allow_users

_passes if {
	some group in input.request.user.groups
	group in input.parameters.allow_groups
}
