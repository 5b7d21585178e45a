package eviction.x

deny if input.pod.metadata.labels.app == "a"
