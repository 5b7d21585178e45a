package eviction.x

deny contains "held" if input.peer[_].ready
