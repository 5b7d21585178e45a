package eviction.x

import input.pod

deny contains "held"
