package source

import (
	"os"
	"regexp"
	"testing"

	"github.com/evictgate/evictgate/policies"
)

// TestTheDocsPolicies compiles the policies that the README and docs/policies.md show, as one directory.
func TestTheDocsPolicies(t *testing.T) {
	const (
		rego    = "(?s)```rego\n(.*?)```"
		binding = "(?s)```yaml\n(apiVersion: evictgate.dev/v1alpha1.*?)```"
	)
	var files []policies.File
	for _, shown := range []struct{ page, pattern, name string }{
		{"../../README.md", binding, "keep-one-ready.yaml"},
		{"../../docs/policies.md", rego, "shop_databases.rego"},
		{"../../docs/policies.md", binding, "night-freeze.yaml"},
	} {
		page, err := os.ReadFile(shown.page)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(shown.pattern).FindSubmatch(page)
		if found == nil {
			t.Fatalf("%s shows no %s", shown.page, shown.name)
		}
		files = append(files, policies.File{Name: shown.name, Data: found[1]})
	}
	set, err := Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(set.Policies()); n != 3 {
		t.Errorf("%d policies, expected 3", n)
	}
}
