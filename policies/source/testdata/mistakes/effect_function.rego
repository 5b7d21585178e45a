package eviction.x

deny(pod) := "held" if pod
