# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.owner.name])} if _owned

_owned if input.owner.kind == "Job"

_owned if input.owner.replicas
