package eviction.x

deny contains "held" if input.pod.spec.nodename == "a"
