package eviction.x

deny contains "held" if {
	input.owner
