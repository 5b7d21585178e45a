package eviction.x

deny contains "held" if input.request.user.groups == "admins"
