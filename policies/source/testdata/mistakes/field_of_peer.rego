package eviction.x

deny contains "held" if {
	some peer in input.peers
	peer.status == "Failed"
}
