# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.owner.name])} if _mine

_mine if input.owner.name

_mine if input.request.evictor == "user"
