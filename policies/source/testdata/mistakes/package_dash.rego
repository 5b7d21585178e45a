package eviction.my-policy

deny contains "held"
