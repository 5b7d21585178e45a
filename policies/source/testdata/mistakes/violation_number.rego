package eviction.x

deny contains 3
