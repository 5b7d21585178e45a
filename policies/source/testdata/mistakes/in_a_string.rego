package eviction.x

deny contains "held" if {
	some part in "text"
	part == input.request.name
}
