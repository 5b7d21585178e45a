package eviction.x

deny contains "held" if input.pod.metadata.name.prefix == "a"
