# METADATA
# title: X
# description: Holds x
# custom:
#   parameters:
#     min_ready: {type: integer, default: 1}
package eviction.x

deny contains "held" if {
	parameters := input.parameters
	input.owner.ready_replicas < object.get(parameters, "min_ready", 1)
}
