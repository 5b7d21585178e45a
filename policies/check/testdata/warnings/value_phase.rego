# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if input.pod.status.phase == "running"
