# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if {
	some peer in input.peers
	phase := peer.phase
	phase == "Runing"
}
