# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains v if some v in violations

violations contains "held"
