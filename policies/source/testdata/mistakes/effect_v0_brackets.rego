package eviction.x

deny[msg] if {
	msg := "held"
}
