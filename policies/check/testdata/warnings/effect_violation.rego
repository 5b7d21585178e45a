# METADATA
# title: X
# description: Holds x
package eviction.x

warn contains "told"

violation contains "held, too"
