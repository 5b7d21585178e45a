package eviction.x

deny contains "held"
