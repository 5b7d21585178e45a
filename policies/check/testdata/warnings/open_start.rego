# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.pod.status.startTime])} if input.request.evictor == "user"
