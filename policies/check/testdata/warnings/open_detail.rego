# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": $"held: {input.owner.name}", "detail": {"owner": input.owner.name}} if input.request.evictor == "user"
