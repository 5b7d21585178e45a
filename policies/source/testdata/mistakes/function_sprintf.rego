package eviction.x

deny contains sprintf("%s is held", input.request.name)
