package eviction.x

deny contains "held" if uuid.rfc4122("a") == "b"
