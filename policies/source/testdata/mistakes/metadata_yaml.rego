# METADATA
# title: "X
package eviction.x

deny contains "held"
