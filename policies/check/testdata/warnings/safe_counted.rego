# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [count(input.peers)])} if input.request.evictor == "user"
