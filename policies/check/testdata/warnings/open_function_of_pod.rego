# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": _describe(input.pod)} if input.request.evictor == "user"

_describe(pod) := concat(" ", [pod.metadata.name, pod.metadata.labels.app])
