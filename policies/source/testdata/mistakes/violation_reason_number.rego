package eviction.x

deny contains {"reason": count(input.peers)}
