package eviction.x

violation contains "held"
