# METADATA
# custom:
#   parameters: [a]
package eviction.x

deny contains "held"
