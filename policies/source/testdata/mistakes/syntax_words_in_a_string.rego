package eviction.x

deny contains "this and that's it" if if
