package eviction.x

deny contains "held" if time.now_ns() - input.pod.status.startTime > 5
