# METADATA
# custom:
#   enforcement: never
package eviction.x

deny contains "held"
