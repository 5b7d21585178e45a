package eviction.x

deny contains "held" if startswith(input.request.name)
