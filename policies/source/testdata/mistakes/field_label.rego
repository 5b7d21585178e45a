package eviction.x

deny contains "held" if input.pod.metadata.lables.app == "a"
