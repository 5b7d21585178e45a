package eviction.x

deny[msg] {
	msg := "held"
}
