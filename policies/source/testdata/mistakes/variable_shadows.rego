package eviction.x

deny contains "held" if {
	input := {}
	input == {}
}
