package eviction.x

deny contains "held" if {
	owner := input.owner
}
