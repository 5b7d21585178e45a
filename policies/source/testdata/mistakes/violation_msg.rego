package eviction.x

deny contains {"msg": "held", "detail": {}}
