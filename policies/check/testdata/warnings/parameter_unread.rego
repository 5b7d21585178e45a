# METADATA
# title: X
# description: Holds x
# custom:
#   parameters:
#     min_ready: {type: integer, default: 1}
#     effect:
#       type: string
package eviction.x

deny contains "held" if input.owner.ready_replicas < input.parameters.min_ready
