# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [_who])} if input.request.evictor == "user"

_who := input.owner.name if input.owner.kind
