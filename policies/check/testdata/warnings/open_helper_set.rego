# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains violation if some violation in _held

_held contains {"reason": sprintf("held: %s", [input.owner.name])} if input.request.evictor == "user"
