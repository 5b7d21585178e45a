package eviction.x

deny contains "held" if {
	count([input.owner.name) > 1
}
