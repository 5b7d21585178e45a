# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains violation if {
	some budget in input.budgets
	violation := _held(budget)
}

_held(budget) := {"reason": sprintf("budget %s", [budget.name])} if budget.disruptions_allowed == 0
