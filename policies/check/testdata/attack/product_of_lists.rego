# METADATA
# title: t
# description: d
# custom:
#   id: product_of_lists
#   enforcement: enforce
package eviction.product_of_lists

a := numbers.range(1, 40000)
x := [[i, j] | some i in a; some j in a]
deny contains {"reason": "x", "detail": {}} if x
