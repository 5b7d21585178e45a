package eviction["1st-policy"]

deny contains "held"
