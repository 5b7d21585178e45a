package policies.my_policy

deny contains "held"
