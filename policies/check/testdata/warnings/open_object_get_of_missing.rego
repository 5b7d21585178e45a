# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [object.get(input.pod.metadata.labels, "team", "nobody")])} if input.request.evictor == "user"
