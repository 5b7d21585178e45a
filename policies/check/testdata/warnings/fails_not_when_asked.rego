# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [to_number(input.request.name)])} if regex.match(`^[0-9]{1,9}$`, input.request.name)
