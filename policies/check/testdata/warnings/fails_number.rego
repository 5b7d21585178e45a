# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [to_number(input.request.name)])} if input.request.evictor == "user"
