# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [[input.pod.metadata.name, input.pod.spec.nodeName, input.pod.status.phase, input.request.user.username]])} if input.request.evictor == "user"
