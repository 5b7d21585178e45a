# METADATA
# title: t
# description: d
# custom:
#   id: long_number
#   enforcement: enforce
package eviction.long_number

x := format_int(bits.lsh(1, 40000000), 10)
deny contains {"reason": "x", "detail": {}} if x
