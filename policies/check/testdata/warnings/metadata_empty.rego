# METADATA
# custom:
#   id: x
package eviction.x

deny contains "held"
