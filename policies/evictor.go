package policies

import "strings"

// Evictor names who evicts, from the user name the API server authenticated: a well-known client
// by the name of its service account, else "node", "service-account" or "user". The kind is a
// convenience: whoever may create service accounts can take such a name, so a policy that must not be
// got around asks for the user or the group.
func Evictor(username string) string {
	if account, ok := strings.CutPrefix(username, "system:serviceaccount:"); ok {
		_, name, _ := strings.Cut(account, ":")
		for _, known := range knownEvictors {
			if strings.Contains(name, known.part) {
				return known.evictor
			}
		}
		return "service-account"
	}
	if strings.HasPrefix(username, "system:node:") {
		return "node"
	}
	return "user"
}

// knownEvictors are the service accounts that the usual installations of these clients use.
var knownEvictors = []struct{ part, evictor string }{
	{"cluster-autoscaler", "cluster-autoscaler"},
	{"karpenter", "karpenter"},
	{"descheduler", "descheduler"},
	{"vpa-updater", "vpa-updater"},
	{"kured", "kured"},
	{"capi-", "cluster-api"},
	{"machine-config", "machine-config"},
}
