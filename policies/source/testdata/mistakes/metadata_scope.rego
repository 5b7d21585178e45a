# METADATA
# scope: rul
package eviction.x

deny contains "held"
