package eviction.x

deny contains "held" if input.labels.app == "a"
