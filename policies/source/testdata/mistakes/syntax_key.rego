package eviction.x

deny contains {"reason": "held", detail: {}}
