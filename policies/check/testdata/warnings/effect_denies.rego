# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held"

denies contains "held, too"
