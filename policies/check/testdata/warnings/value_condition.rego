# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if {
	some condition in input.pod.status.conditions
	condition.type == "ready"
	condition.status == "true"
}
