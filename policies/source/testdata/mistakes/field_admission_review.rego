package eviction.x

deny contains "held" if input.request.userInfo.username == "a"
