package eviction.x

deny contains "held" if opa.runtime().env.HOME == "/root"
