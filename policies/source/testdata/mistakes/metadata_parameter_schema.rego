# METADATA
# custom:
#   parameters:
#     min_ready: {minimum: one}
package eviction.x

deny contains "held" if input.parameters.min_ready
