# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [time.parse_rfc3339_ns(input.request.name)])} if input.request.evictor == "user"
