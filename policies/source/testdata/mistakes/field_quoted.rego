package eviction.x

deny contains "held" if input["pod"]["metadata"]["anotations"]["a"] == "b"
