# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": reason} if {
	some budget in input.budgets
	budget.disruptions_allowed == 0
	reason := sprintf("%s %v", [budget.name, budget.selector.matchLabels])
}
