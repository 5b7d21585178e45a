package eviction.x

denies contains "held"
