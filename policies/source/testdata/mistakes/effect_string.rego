package eviction.x

deny := "held" if input.owner
