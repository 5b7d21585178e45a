# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if input.disruption.code == 200
