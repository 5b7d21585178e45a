package policies

import "testing"

func TestEvictor(t *testing.T) {
	for username, want := range map[string]string{
		"system:serviceaccount:kube-system:cluster-autoscaler":      "cluster-autoscaler",
		"system:serviceaccount:autoscaling:aws-cluster-autoscaler":  "cluster-autoscaler",
		"system:serviceaccount:karpenter:karpenter":                 "karpenter",
		"system:serviceaccount:kube-system:descheduler-sa":          "descheduler",
		"system:serviceaccount:kube-system:vpa-updater":             "vpa-updater",
		"system:serviceaccount:kube-system:kured":                   "kured",
		"system:serviceaccount:capi-system:capi-manager":            "cluster-api",
		"system:serviceaccount:openshift-mco:machine-config-daemon": "machine-config",
		"system:serviceaccount:karpenter:upgrader":                  "service-account", // the namespace does not count
		"system:serviceaccount:shop:default":                        "service-account",
		"system:serviceaccount:broken":                              "service-account",
		"system:node:node-1":                                        "node",
		"admin":                                                     "user",
		"karpenter":                                                 "user",
		"":                                                          "user",
	} {
		if got := Evictor(username); got != want {
			t.Errorf("Evictor(%q) is %q, want %q", username, got, want)
		}
	}
}
