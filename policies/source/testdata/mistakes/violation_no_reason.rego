package eviction.x

deny contains {"detail": {"a": 1}}
