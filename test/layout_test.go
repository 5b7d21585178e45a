// Package test holds what is true of the project as a whole.
package test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/evictgate/evictgate"

// allowed says which of our packages each of our packages may use, and with each of those what it may use itself:
// imports run one way.
var allowed = map[string][]string{
	"/certs": {},
	// How the command line prints; what results look like is said beside what they belong to.
	"/policies/output":            {},
	"/policies/output/outputtest": {},
	"/policies":                   {"/policies/internal/fields", "/policies/internal/limits", "/policies/internal/opa", "/policies/internal/rego", "/policies/v1alpha1"},
	// Who makes policies' sets, finds fault with them and tests them stands above the decision.
	"/policies/source":   {"/policies"},
	"/policies/check":    {"/policies/source"},
	"/policies/suite":    {"/policies/source"},
	"/policies/bundle":   {"/policies/source"},
	"/policies/report":   {"/policies/output", "/policies/suite"},
	"/policies/confined": {"/policies/check"},
	"/policies/v1alpha1": {},
	// Rego as it is written, what it may take, and OPA that compiles it; they know neither inputs nor decisions.
	"/policies/internal/rego":       {},
	"/policies/internal/limits":     {"/policies/internal/rego"},
	"/policies/internal/opa":        {"/policies/internal/limits", "/policies/internal/rego"},
	"/policies/internal/fields":     {},
	"/policies/internal/policytest": {"/policies/internal/rego"},
	"/webhook/budget":               {"/policies", "/policies/v1alpha1"},
	"/webhook/internal/queue":       {},
	"/webhook/internal/logfile":     {},
	"/webhook/record":               {"/policies", "/policies/v1alpha1", "/webhook/internal/logfile", "/webhook/internal/queue"},
	"/webhook/review/store":         {"/policies", "/policies/v1alpha1", "/webhook/record"},
	"/webhook/review/replay":        {"/policies", "/policies/v1alpha1", "/webhook/record"},
	"/webhook/access":               {},
	"/webhook/access/tokens":        {"/webhook/access"},
	"/webhook/review/page": {
		"/policies/output", "/policies", "/policies/v1alpha1", "/webhook/access", "/webhook/record", "/webhook/review/store", "/webhook/listen", "/webhook/review", "/webhook/review/render",
	},
	"/webhook/review":               {"/policies", "/policies/v1alpha1", "/webhook/record", "/webhook/review/store"},
	"/webhook/review/completeness":  {"/webhook/review/apilog", "/webhook/review/store"},
	"/webhook/review/files":         {"/policies/output", "/webhook/review/store", "/webhook/review/replay"},
	"/webhook/review/report":        {"/policies/output", "/webhook/review", "/webhook/review/completeness", "/webhook/review/render", "/webhook/review/replay"},
	"/webhook/review/render":        {"/policies/output", "/policies", "/policies/v1alpha1", "/webhook/record", "/webhook/review/store"},
	"/webhook/review/upload":        {"/policies", "/policies/v1alpha1", "/webhook/record", "/webhook/review/store"},
	"/webhook/review/apilog":        {"/policies", "/policies/v1alpha1", "/webhook/internal/logfile", "/webhook/record", "/webhook/hooks"},
	"/webhook/cluster":              {"/policies", "/policies/v1alpha1", "/webhook/budget"},
	"/webhook/preview":              {"/policies/output", "/policies/report", "/policies", "/policies/v1alpha1", "/webhook/budget", "/webhook/cluster"},
	"/webhook/evictionpolicy":       {"/policies/check"},
	"/webhook/history":              {"/policies", "/policies/v1alpha1"},
	"/webhook/callers":              {},
	"/webhook/hooks":                {},
	"/webhook/install/registration": {},
	"/webhook/tracing":              {},
	"/webhook/listen":               {},
	"/webhook/logs":                 {},
	"/webhook/memory":               {},
	"/webhook/install/rights":       {"/certs", "/webhook", "/webhook/access/tokens", "/webhook/callers", "/webhook/evictionpolicy", "/webhook/install/registration"},
	"/webhook/install/doctor": {
		"/certs", "/policies/output", "/policies", "/webhook/evictionpolicy", "/policies/v1alpha1", "/webhook", "/webhook/record", "/webhook/budget", "/webhook/callers", "/webhook/cluster", "/webhook/history", "/webhook/fate",
		"/webhook/hooks", "/webhook/listen", "/webhook/memory", "/webhook/install/registration", "/webhook/tracing",
	},
	"/webhook/follow": {"/webhook/cluster", "/webhook/fate", "/webhook/history"},
	"/webhook/fate":   {"/policies", "/policies/v1alpha1", "/webhook/record"},
	"/webhook":        {"/policies", "/policies/v1alpha1", "/webhook/record", "/webhook/budget", "/webhook/cluster", "/webhook/history", "/webhook/hooks", "/webhook/listen", "/webhook/memory", "/webhook/fate", "/webhook/tracing"},
	"/cmd/evictgate": {
		"/certs", "/policies/output", "/policies", "/policies/bundle", "/policies/check", "/policies/confined", "/policies/report", "/policies/source", "/policies/suite", "/policies/v1alpha1", "/webhook", "/webhook/access", "/webhook/access/tokens", "/webhook/follow", "/webhook/install/rights", "/webhook/record", "/webhook/review/apilog", "/webhook/review/replay",
		"/webhook/review/store", "/webhook/review/upload", "/webhook/budget", "/webhook/callers", "/webhook/cluster", "/webhook/install/doctor", "/webhook/evictionpolicy", "/webhook/history",
		"/webhook/hooks", "/webhook/listen", "/webhook/logs", "/webhook/memory", "/webhook/fate", "/webhook/review/page", "/webhook/preview", "/webhook/install/registration", "/webhook/review", "/webhook/review/completeness", "/webhook/review/files", "/webhook/review/report", "/webhook/tracing",
	},
}

// forbidden says which foreign packages must stay out of a package and all it uses.
var forbidden = map[string][]string{
	"/policies/v1alpha1": {"k8s.io/api", "k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/policies":          {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http/httputil"},
	"/policies/source":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http/httputil"},
	"/policies/check":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http/httputil"},
	"/policies/suite":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http/httputil"},
	"/policies/bundle":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/budget":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/history":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/fate":      {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/cluster":   {"sigs.k8s.io/controller-runtime"},
	"/webhook/preview":   {"sigs.k8s.io/controller-runtime"},
	"/webhook/record":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},

	"/webhook/internal/queue":   {"k8s.io", "sigs.k8s.io"},
	"/webhook/internal/logfile": {"k8s.io", "sigs.k8s.io"},
	"/webhook/review/replay":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/review/report":    {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/policies/report":          {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/policies/output":          {"k8s.io", "sigs.k8s.io/controller-runtime", "github.com/open-policy-agent"},
	"/webhook/tracing":          {"k8s.io", "sigs.k8s.io"},
	"/webhook/listen":           {"k8s.io", "sigs.k8s.io"},
	"/webhook/logs":             {"k8s.io", "sigs.k8s.io"},
	"/webhook/memory":           {"k8s.io", "sigs.k8s.io"},
	// OPA's protocol is spoken without OPA.
	"/webhook/review/upload": {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/open-policy-agent/opa/v1/plugins"},
	"/webhook/access":        {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/review/page":   {"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	"/webhook/review/apilog": {"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "k8s.io/apiserver", "net/http/httputil"},
}

// ours are our packages, with what each imports itself and what it uses in all.
type ours struct {
	ImportPath, Dir        string
	GoFiles, Imports, Deps []string
}

// listed asks go list once for all tests: each call takes a second.
var listed = sync.OnceValues(func() ([]ours, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", module+"/cmd/...", module+"/webhook/...", module+"/policies/...", module+"/certs/...").Output()
	if err != nil {
		return nil, err
	}
	var list []ours
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p ours
		if err := decoder.Decode(&p); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
})

// packages are ours by their path below the module.
func packages(t *testing.T) map[string]ours {
	t.Helper()
	list, err := listed()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	byPath := map[string]ours{}
	for _, p := range list {
		byPath[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if len(byPath) < 20 {
		t.Fatalf("go list names only %d packages", len(byPath))
	}
	return byPath
}

// mayUse reports whether a package may use another of ours: itself, by its list, or by that of one in it.
func mayUse(own, dep string) bool {
	return own == dep || slices.ContainsFunc(allowed[own], func(listed string) bool { return mayUse(listed, dep) })
}

func TestImportsRunOneWay(t *testing.T) {
	for own, p := range packages(t) {
		if _, ok := allowed[own]; !ok {
			t.Errorf("%s is not in the layout; add it to the table with what it may import", own)
			continue
		}
		for _, dep := range p.Deps {
			if rest, isOurs := strings.CutPrefix(dep, module); isOurs && !mayUse(own, rest) {
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

func TestTheLayoutNamesPackagesThatAreThere(t *testing.T) {
	there := packages(t)
	for own, list := range allowed {
		for _, name := range append([]string{own}, list...) {
			if _, ok := there[name]; !ok {
				t.Errorf("there is no package %s, but the layout names it", name)
			}
		}
	}
	for own := range forbidden {
		if _, ok := there[own]; !ok {
			t.Errorf("there is no package %s, but the layout forbids it something", own)
		}
	}
}

// rooms are to be read as a whole: how many lines they have at most, and how many names they export; 0 for no bound.
var rooms = map[string]struct{ lines, exported int }{
	"/policies":      {4500, 110}, // the decision, which everybody must know
	"/cmd/evictgate": {3700, 0},   // flags and wiring
}

func TestRoomsStaySmall(t *testing.T) {
	all := packages(t)
	for own, most := range rooms {
		lines, exported := 0, 0
		for _, file := range all[own].GoFiles {
			raw, err := os.ReadFile(filepath.Join(all[own].Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(raw, []byte("\n"))
			exported += exportedIn(t, raw)
		}
		if lines == 0 || lines > most.lines || most.exported > 0 && exported > most.exported {
			t.Errorf("%s has %d lines and exports %d names, expected at most %d and %d", own, lines, exported, most.lines, most.exported)
		}
	}
}

// exportedIn counts the exported names of a file's package level.
func exportedIn(t *testing.T, source []byte) (n int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name := range file.Scope.Objects { //nolint:staticcheck // what the package level has is all that is asked
		if ast.IsExported(name) {
			n++
		}
	}
	return n
}

func TestOnlyTracingKnowsOpenTelemetry(t *testing.T) {
	for own, p := range packages(t) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "go.opentelemetry.io/") && own != "/webhook/tracing" {
				t.Errorf("%s imports %s", own, imported)
			}
		}
	}
}

func TestTheWebhookUsesOPAOnlyThroughPolicies(t *testing.T) {
	for own, p := range packages(t) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "github.com/open-policy-agent/") && !strings.HasPrefix(own, "/policies") {
				t.Errorf("%s imports %s", own, imported)
			}
		}
	}
}
