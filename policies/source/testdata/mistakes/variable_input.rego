package eviction.x

deny contains "held" if pod.metadata.name == "a"
