package eviction.x

deny contains "held" if {
	some budget in input.budgets
	budget.disruptionsAllowed == 0
}
