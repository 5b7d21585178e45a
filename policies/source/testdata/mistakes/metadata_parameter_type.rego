# METADATA
# custom:
#   parameters:
#     min_ready: {type: int}
package eviction.x

deny contains "held" if input.parameters.min_ready
