package eviction.x

deny contains _f("a")

_f(a) := _g(a)

_g(a) := _f(a)
