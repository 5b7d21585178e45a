package eviction.x

deny contains "held" if _a

_a if _b

_b if _a
