package eviction.x

deny contains "held" if rand.intn("a", 2) == 1
