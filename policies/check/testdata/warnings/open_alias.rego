# METADATA
# title: X
# description: Holds x
package eviction.x

import input.owner

deny contains {"reason": concat(" ", ["held:", owner.name])} if input.request.evictor == "user"
