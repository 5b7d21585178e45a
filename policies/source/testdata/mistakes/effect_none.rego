package eviction.x

allow := true
