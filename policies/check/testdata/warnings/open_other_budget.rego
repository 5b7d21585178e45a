# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.budgets[1].name])} if input.budgets[0].disruptions_allowed == 0
