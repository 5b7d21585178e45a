# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if {
	some taint in input.node.taints
	taint.effect == "noschedule"
}
