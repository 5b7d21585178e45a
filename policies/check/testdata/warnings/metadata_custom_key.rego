# METADATA
# title: X
# description: Holds x
# custom:
#   team: a
#   paramters:
#     effect: {type: string}
package eviction.x

deny contains "held" if input.parameters.effect
