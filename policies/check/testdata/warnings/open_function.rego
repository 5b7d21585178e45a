# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains _held("x") if input.request.evictor == "user"

_held(why) := {"reason": sprintf("%s: %s", [why, input.owner.name])}
