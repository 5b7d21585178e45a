package eviction.x

deny contains "held" if start_with(input.request.name, "a")
