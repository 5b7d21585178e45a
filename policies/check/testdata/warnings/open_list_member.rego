# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.peers[0].name])} if input.request.evictor == "user"
