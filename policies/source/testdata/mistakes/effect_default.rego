package eviction.x

default deny := false

deny contains "held"
