# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [_who])} if input.request.evictor == "user"

default _who := "a pod"

_who := input.owner.name
