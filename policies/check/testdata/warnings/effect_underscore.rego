# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held"

delay_ contains "held, too"
