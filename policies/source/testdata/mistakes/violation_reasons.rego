package eviction.x

deny contains _held("a")

_held(name) := {"reasons": $"held {name}"}
