# METADATA
# custom:
#   parameters:
#     min_ready: {type: integer, default: 1}
package eviction.x

deny contains "held" if input.owner.ready_replicas < input.parameters.minReady
