package eviction.x

deny contains message if input.owner
