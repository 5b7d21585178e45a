# METADATA
# custom:
#   parameters:
#     min_ready: 1
package eviction.x

deny contains "held" if input.parameters.min_ready
