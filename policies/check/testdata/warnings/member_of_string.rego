# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains "held" if "prod" in input.request.namespace
