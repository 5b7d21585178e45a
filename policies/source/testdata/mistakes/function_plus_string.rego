package eviction.x

deny contains "held" if input.request.name == "a" + "b"
