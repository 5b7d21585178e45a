# METADATA
# custom:
#   parameters:
#     min_ready: {type: integer}
#   required: [minready]
package eviction.x

deny contains "held" if input.parameters.min_ready
