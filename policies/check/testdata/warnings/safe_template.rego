# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": $"held: {input.owner.name} {input.pod.metadata.labels.team}"} if input.request.evictor == "user"
