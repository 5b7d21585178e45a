package eviction.x

deny contains "held" if input.user.username == "a"
