package eviction.x

deny contains "held" if input.pod.spec.node_name == "a"
