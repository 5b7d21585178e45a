# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.history.holds.x])} if input.request.evictor == "user"
