package certs

import "net"

// SplitNames tells host names and addresses apart.
func SplitNames(names []string) (hosts []string, ips []net.IP) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			hosts = append(hosts, name)
		}
	}
	return hosts, ips
}
