package eviction.x

deny contains "held" if input.owner.readyReplicas == 1
