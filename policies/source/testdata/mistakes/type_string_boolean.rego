package eviction.x

deny contains "held" if input.request.dry_run == "true"
