package eviction.x

deny contains "held" if input.request.user.name == "a"
