package eviction.x

deny contains "held" if input.review.object.metadata.name == "a"
