package eviction.x

deny contains "held" if _f(1)

_f(a, b) if a < b
