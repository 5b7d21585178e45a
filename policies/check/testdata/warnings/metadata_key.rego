# METADATA
# titel: X
# title: X
# description: Holds x
package eviction.x

deny contains "held"
