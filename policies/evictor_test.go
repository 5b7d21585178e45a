package policies

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDefaultEvictors(t *testing.T) {
	for username, want := range map[string]string{
		"system:serviceaccount:kube-system:cluster-autoscaler":         "cluster-autoscaler",
		"system:serviceaccount:autoscaling:aws-cluster-autoscaler":     "cluster-autoscaler",
		"system:serviceaccount:karpenter:karpenter":                    "karpenter",
		"system:serviceaccount:kube-system:descheduler-sa":             "descheduler",
		"system:serviceaccount:kube-system:vpa-updater":                "vpa-updater",
		"system:serviceaccount:kube-system:kured":                      "kured",
		"system:serviceaccount:capi-system:capi-manager":               "cluster-api",
		"system:serviceaccount:openshift-mco:machine-config-daemon":    "machine-config",
		"system:serviceaccount:karpenter:upgrader":                     "service-account", // the namespace does not count
		"system:serviceaccount:kube-system:evictionrequest-controller": "eviction-request",
		"system:serviceaccount:shop:evictionrequest-controller":        "service-account", // only the control plane's own
		"system:serviceaccount:shop:default":                           "service-account",
		"system:serviceaccount:broken":                                 "service-account",
		"system:node:node-1":                                           "node",
		"admin":                                                        "user",
		"karpenter":                                                    "user",
		"":                                                             "user",
	} {
		if got := DefaultEvictors().Of(User{Username: username}); got != want {
			t.Errorf("evictor of %q is %q, want %q", username, got, want)
		}
	}
}

func TestReadEvictors(t *testing.T) {
	read := func(t *testing.T, text string) (*Evictors, error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "evictors.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadEvictors(file)
	}
	t.Run("own rules come first", func(t *testing.T) {
		e, err := read(t, `evictors:
- {evictor: upgrader, users: ["system:serviceaccount:*:karpenter-up*er", "*-robot"]}
- {evictor: sre, groups: ["oncall", "sre:*"]}
`)
		if err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string]string{
			"system:serviceaccount:ops:karpenter-upgrader": "upgrader",
			"system:serviceaccount:ops:karpenter-upper":    "upgrader",
			"system:serviceaccount:ops:karpenter-uper":     "upgrader",
			"system:serviceaccount:ops:karpenter-up":       "karpenter",
			"night-robot":                                  "upgrader",
			"robot":                                        "user",
		} {
			if got := e.Of(User{Username: user}); got != want {
				t.Errorf("%s is %s, want %s", user, got, want)
			}
		}
		if got := e.Of(User{Username: "jane", Groups: []string{"dev", "sre:eu"}}); got != "sre" {
			t.Errorf("jane of sre:eu is %s", got)
		}
		if names := e.Names(); !slices.IsSorted(names) || !slices.Contains(names, "upgrader") || !slices.Contains(names, "node") {
			t.Errorf("names are %q", names)
		}
	})
	t.Run("without the defaults", func(t *testing.T) {
		e, err := read(t, "defaults: false\nevictors:\n- {evictor: karpenter, users: [\"system:serviceaccount:kube-system:karpenter\"]}\n")
		if err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string]string{
			"system:serviceaccount:kube-system:karpenter": "karpenter",
			"system:serviceaccount:shop:karpenter":        "service-account",
			"system:serviceaccount:kube-system:kured":     "service-account",
		} {
			if got := e.Of(User{Username: user}); got != want {
				t.Errorf("%s is %s, want %s", user, got, want)
			}
		}
	})
	for text, want := range map[string]string{
		"evictors:\n- {evictor: Karpenter, users: [a]}": `evictors[0]: evictor is "Karpenter"; expected a name of lower case letters`,
		"evictors:\n- {users: [a]}":                     `evictor is ""`,
		"evictors:\n- {evictor: a}":                     "neither users nor groups are given",
		"evictors:\n- {evictor: a, users: [\"\"]}":      "an empty user or group fits nobody",
		"evictors:\n- {evictor: a, user: [x]}":          `unknown field "user"`,
		"evictors: {":                                   "evictors.yaml: ",
	} {
		if _, err := read(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q", text, err, want)
		}
	}
	if _, err := ReadEvictors("no/such/file"); err == nil {
		t.Error("a file that is not there is accepted")
	}
}
