package eviction.a.b

deny contains "held"
