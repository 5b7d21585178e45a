# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": concat(" ", ["waits for", peer.name, peer.node])} if {
	some peer in input.peers
	not peer.ready
}
