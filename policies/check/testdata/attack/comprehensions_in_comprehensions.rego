# METADATA
# title: t
# description: d
# custom:
#   id: comprehensions_in_comprehensions
#   enforcement: enforce
package eviction.comprehensions_in_comprehensions

x := [1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|[1|true]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
deny contains {"reason": "x", "detail": {}} if x
