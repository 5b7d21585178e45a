package eviction.x

deny contains "held" {
	input.owner
}
