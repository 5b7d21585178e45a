// Package test holds what is true of the project as a whole.
package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/evictgate/evictgate"

// allowed says which of our packages each of our packages may use: imports run one way.
var allowed = map[string][]string{
	"/certs":                  {},
	"/policies":               {"/policies/v1alpha1"},
	"/policies/bundle":        {"/policies", "/policies/v1alpha1"},
	"/policies/v1alpha1":      {},
	"/webhook/budget":         {"/policies", "/policies/v1alpha1"},
	"/webhook/audit":          {"/policies", "/policies/v1alpha1"},
	"/webhook/audit/store":    {"/policies", "/policies/v1alpha1", "/webhook/audit"},
	"/webhook/audit/replay":   {"/policies", "/policies/v1alpha1", "/webhook/audit"},
	"/webhook/access":         {},
	"/webhook/page":           {"/policies", "/policies/v1alpha1", "/webhook/access", "/webhook/audit", "/webhook/audit/store"},
	"/webhook/audit/upload":   {"/policies", "/policies/v1alpha1", "/webhook/audit", "/webhook/audit/store"},
	"/webhook/audit/apilog":   {"/policies", "/policies/v1alpha1", "/webhook/audit"},
	"/webhook/cluster":        {"/policies", "/policies/v1alpha1", "/webhook/budget"},
	"/webhook/preview":        {"/policies", "/policies/v1alpha1", "/webhook/budget", "/webhook/cluster"},
	"/webhook/evictionpolicy": {"/policies", "/policies/v1alpha1"},
	"/webhook/history":        {"/policies", "/policies/v1alpha1"},
	"/webhook/registration":   {},
	"/webhook/tracing":        {},
	"/webhook/doctor": {
		"/policies", "/policies/v1alpha1", "/webhook", "/webhook/audit", "/webhook/budget", "/webhook/cluster", "/webhook/history", "/webhook/outcome",
		"/webhook/registration", "/webhook/tracing",
	},
	"/webhook/outcome": {"/policies", "/policies/v1alpha1", "/webhook/audit"},
	"/webhook":         {"/policies", "/policies/v1alpha1", "/webhook/audit", "/webhook/budget", "/webhook/cluster", "/webhook/history", "/webhook/outcome", "/webhook/tracing"},
	"/cmd/evictgate": {
		"/certs", "/policies", "/policies/bundle", "/policies/v1alpha1", "/webhook", "/webhook/access", "/webhook/audit", "/webhook/audit/apilog", "/webhook/audit/replay",
		"/webhook/audit/store", "/webhook/audit/upload", "/webhook/budget", "/webhook/cluster", "/webhook/doctor", "/webhook/evictionpolicy", "/webhook/history",
		"/webhook/outcome", "/webhook/page", "/webhook/preview", "/webhook/registration", "/webhook/tracing",
	},
}

// forbidden says which foreign packages must stay out of a package and all it uses.
var forbidden = map[string][]string{
	"/policies/v1alpha1": {"k8s.io/api", "k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/policies":          {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http/httputil"},
	"/policies/bundle":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/budget":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/history":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/outcome":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/cluster":   {"sigs.k8s.io/controller-runtime"},
	"/webhook/preview":   {"sigs.k8s.io/controller-runtime"},
	"/webhook/audit":     {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},

	"/webhook/audit/replay": {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/tracing":      {"k8s.io", "sigs.k8s.io"},
	// OPA's protocol is spoken without OPA.
	"/webhook/audit/upload": {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/open-policy-agent/opa/v1/plugins"},
	"/webhook/access":       {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/page":         {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/audit/apilog": {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "k8s.io/apiserver", "net/http/httputil"},
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

func TestImportsRunOneWay(t *testing.T) {
	for _, pkg := range goList(t, module+"/cmd/...", module+"/webhook/...", module+"/policies/...", module+"/certs/...") {
		own := strings.TrimPrefix(pkg, module)
		list, ok := allowed[own]
		if !ok {
			t.Errorf("%s is not in the layout; add it to the table with what it may import", own)
			continue
		}
		for _, dep := range goList(t, "-deps", pkg) {
			if rest, ours := strings.CutPrefix(dep, module); ours && rest != own && !slices.Contains(list, rest) {
				t.Errorf("%s must not depend on %s", own, rest)
			}
			for _, prefix := range forbidden[own] {
				if dep == prefix || strings.HasPrefix(dep, prefix+"/") {
					t.Errorf("%s must not depend on %s", own, dep)
				}
			}
		}
	}
}

func TestOnlyTracingKnowsOpenTelemetry(t *testing.T) {
	for _, pkg := range goList(t, module+"/cmd/...", module+"/webhook/...", module+"/policies/...", module+"/certs/...") {
		for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, pkg) {
			if strings.HasPrefix(imported, "go.opentelemetry.io/") && pkg != module+"/webhook/tracing" {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}

func TestTheWebhookUsesOPAOnlyThroughPolicies(t *testing.T) {
	for _, pkg := range goList(t, module+"/cmd/...", module+"/webhook/...", module+"/certs/...") {
		for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, pkg) {
			if strings.HasPrefix(imported, "github.com/open-policy-agent/") {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}
