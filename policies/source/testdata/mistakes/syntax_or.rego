package eviction.x

deny contains "held" if input.owner.name == "a" || input.owner.kind == "b"
