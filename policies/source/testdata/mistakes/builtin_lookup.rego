package eviction.x

deny contains "held" if net.lookup_ip_addr("example.org")
