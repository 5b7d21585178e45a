package policies

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies/internal/policytest"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// The helpers of all rooms by the names that these tests give them.
var policy, bind, inline = policytest.Policy, policytest.Bind, policytest.Inline

const maxFuzzed = policytest.MaxFuzzed

// compiled is the set of some files; they must be in order.
func compiled(t testing.TB, files ...File) *Set {
	t.Helper()
	set, err := compileFiles(files)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return set
}

// compileFiles does what package source does, which these tests cannot use since it is made of this package. It
// does not look for what is wrong with the YAML.
func compileFiles(files []File) (*Set, error) {
	var parts Parts
	for _, f := range files {
		if parts.Add(f); strings.HasSuffix(f.Name, ".rego") {
			continue
		}
		var p v1alpha1.EvictionPolicy
		if err := yaml.UnmarshalStrict(f.Data, &p); err != nil {
			return nil, err
		}
		b, errs := NewBinding(f.Name, &p)
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		if p.Spec.Rego == "" {
			parts.Library = append(parts.Library, p.Spec.Library)
		} else if parts.Parse(File{Name: fmt.Sprintf("%s (%s spec.rego)", f.Name, p.Name), Data: []byte(p.Spec.Rego)}); len(parts.Problems) == 0 {
			b.Policy = rego.PolicyID(parts.Modules[len(parts.Modules)-1])
		}
		parts.Bindings = append(parts.Bindings, b)
	}
	set, problems := New(parts)
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}
