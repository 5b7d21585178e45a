# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if {
	every peer in input.peers {
		peer.redy
	}
}
