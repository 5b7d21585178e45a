# METADATA
# custom:
#   parameters:
#     min_ready:
#       type: integer
#       default: one
package eviction.x

deny contains "held" if input.parameters.min_ready
