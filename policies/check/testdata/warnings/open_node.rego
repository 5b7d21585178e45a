# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.node.labels["topology.kubernetes.io/zone"]])} if input.request.evictor == "user"
