# METADATA
# custom:
#   parameters:
#     min_ready: {type: integer, default: 1}
package eviction.x

deny contains "held" if {
	parameters := input.parameters
	input.owner.ready_replicas < parameters.min_redy
}
