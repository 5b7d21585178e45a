package eviction.x

deny contains "held" if {
	a := input.owner.name
	a := input.request.name
}
