package eviction.x

deny contains "held" if http.send({"method": "get", "url": "https://example.org"}).status_code == 200
