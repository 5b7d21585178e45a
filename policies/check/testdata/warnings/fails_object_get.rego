# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [object.get(input.owner, "name", "nobody")])} if input.request.evictor == "user"
