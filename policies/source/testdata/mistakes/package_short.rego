package eviction

deny contains "held"
