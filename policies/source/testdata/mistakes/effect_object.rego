package eviction.x

deny["a"] := "held" if input.owner
