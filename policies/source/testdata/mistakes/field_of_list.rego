package eviction.x

deny contains "held" if input.peers.name == "a"
