# METADATA
# title: X
# custom:
#   id: y
package eviction.x

deny contains "held"
