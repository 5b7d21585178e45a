# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.owner.name])} if not input.request.dry_run
