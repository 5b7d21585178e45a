package eviction.x

deny contains "held" if input.owner.replica == 1
