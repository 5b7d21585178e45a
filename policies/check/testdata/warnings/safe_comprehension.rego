# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [[peer.name | some peer in input.peers]])} if input.request.evictor == "user"
