package eviction.x

deny contains "held" if _f

_f(a) if a > 1
