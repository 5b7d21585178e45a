package eviction.x

deny contains "held" if input.pod.spec.containers[_].resource.limits.cpu
