# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": "held", "details": {"a": 1}}
