# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": reason} if {
	team := input.pod.metadata.labels.team
	reason := sprintf("ask %s", [team])
}
