# METADATA
# title: X
# description: Holds x
package eviction.x

delay contains {"reason": reason, "detail": {}} if {
	input.request.evictor == "user"
	team := input.pod.metadata.labels.team
	reason := sprintf("ask %s", [team])
}
