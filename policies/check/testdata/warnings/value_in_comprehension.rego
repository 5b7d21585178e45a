# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if count([1 | some peer in input.peers; peer.phase == "Crashed"]) > 1
