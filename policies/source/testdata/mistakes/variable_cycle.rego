package eviction.x

deny contains a if {
	a := b
	b := a
}
