package policies

import (
	"os"
	"regexp"
	"testing"
)

// TestTheREADMEsPolicies compiles the policies that the README shows, as one directory.
func TestTheREADMEsPolicies(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for pattern, name := range map[string]string{
		"(?s)```rego\n(.*?)```":                                   "shop_databases.rego",
		"(?s)```yaml\n(apiVersion: evictgate.dev/v1alpha1.*?)```": "night-freeze.yaml",
	} {
		found := regexp.MustCompile(pattern).FindSubmatch(readme)
		if found == nil {
			t.Fatalf("the README shows no %s", name)
		}
		files = append(files, File{Name: name, Data: found[1]})
	}
	set, err := Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(set.Policies()); n != 2 {
		t.Errorf("%d policies, expected 2", n)
	}
}
