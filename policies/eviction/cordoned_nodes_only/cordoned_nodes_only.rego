# METADATA
# title: Evict from nodes being drained only
# description: |
#   Denies an eviction by automation from a node that nobody drains. A node is being drained when it is
#   cordoned, or has one of the taints by which autoscalers mark nodes that they remove. It lets drains and
#   upgrades pass, and stops what moves pods between working nodes, such as the descheduler and the VPA
#   updater. People may evict from any node unless parameter evictors names user, too. A pod whose node
#   does not exist any more may go, as that node is more than drained. The kind of evictor is guessed from
#   the name of its service account, so this is order, not defence; see who_may_evict.
# related_resources:
#   - description: The eviction autoscaler, which goes by the cordon, too
#     ref: https://github.com/Azure/eviction-autoscaler
#   - description: Safely drain a node
#     ref: https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/
#   - description: How Karpenter disrupts nodes
#     ref: https://karpenter.sh/docs/concepts/disruption/
# custom:
#   id: cordoned_nodes_only
#   enforcement: enforce
#   parameters:
#     evictors:
#       type: array
#       items:
#         type: string
#         minLength: 1
#       default: [cluster-api, cluster-autoscaler, descheduler, eviction-request, karpenter, kured, machine-config, node, service-account, vpa-updater]
#       description: kinds of evictors that may evict from nodes being drained only
#     taints:
#       type: array
#       items:
#         type: string
#         minLength: 1
#       default: [node.kubernetes.io/unschedulable, ToBeDeletedByClusterAutoscaler, karpenter.sh/disrupted, karpenter.sh/disruption]
#       description: keys of taints that a node has while it is drained
package eviction.cordoned_nodes_only

deny contains {"reason": reason, "detail": {"node": node, "taints": input.parameters.taints}} if {
	input.request.evictor in input.parameters.evictors
	node := input.node.name
	node != "" # a pod whose node is gone may go
	not input.node.unschedulable
	not _tainted
	reason := $"{input.request.evictor} may evict pods from nodes being drained only, and this node is neither cordoned nor marked for removal; cordon it first"
}

_tainted if {
	some taint in input.node.taints
	taint.key in input.parameters.taints
}
