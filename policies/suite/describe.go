package suite

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Description is a bound policy with all that it says of itself, for people.
type Description struct {
	policies.BoundPolicy
	// Module is the file of its Rego, which is another than File when an EvictionPolicy binds it.
	Module      string            `json:"module"`
	Description string            `json:"description"`
	Effects     []policies.Effect `json:"effects"`
	Parameters  []Parameter       `json:"parameters"`
	// Reads are the input paths that its rules read, sorted.
	Reads   []string   `json:"reads"`
	Related []Resource `json:"related"`
}

// Parameter is one parameter of a policy, or a member of one.
type Parameter struct {
	// Name is as it is reached, for example windows[].from.
	Name string `json:"name"`
	// Type says in words what its schema asks for, for example "integer, minimum 0".
	Type string `json:"type"`
	// Default is null when it has none.
	Default     any    `json:"default"`
	Required    bool   `json:"required"`
	Description string `json:"description"`
}

// Resource is a page that is about what a policy does.
type Resource struct {
	Description string `json:"description"`
	Ref         string `json:"ref"`
}

// Describe describes the bound policies of a set, sorted by name.
func Describe(s *policies.Set) ([]Description, error) {
	bound := s.Policies()
	list := make([]Description, len(bound))
	for i, b := range bound {
		d := Description{BoundPolicy: b, Description: b.Metadata.Description, Effects: b.Effects, Parameters: parameterList(b.Metadata.Parameters)}
		for _, effect := range b.Effects {
			refs, err := dependencies.Base(s.Compiler(), ast.NewBody(ast.NewExpr(ast.NewTerm(rego.EffectRef(b.Policy, effect)))))
			if err != nil {
				return nil, fmt.Errorf("find what policy %s reads: %w", b.Policy, err)
			}
			d.Reads = append(d.Reads, policies.NeedsOf(refs).Refs()...)
		}
		slices.Sort(d.Reads)
		d.Reads = slices.Compact(d.Reads)
		d.Module, d.Related = origin(s, b.Policy)
		list[i] = d
	}
	return list, nil
}

// origin is the file of a policy's module, and METADATA related_resources in it.
func origin(s *policies.Set, id string) (file string, related []Resource) {
	for _, m := range s.Modules() {
		if rego.PolicyID(m) != id {
			continue
		}
		file = rego.FileOf(m)
		if a := s.Compiler().GetAnnotationSet().GetPackageScope(m.Package); a != nil {
			for _, r := range a.RelatedResources {
				related = append(related, Resource{r.Description, r.Ref.String()})
			}
		}
	}
	return file, related
}

// InLibrary reports whether the policy is one of the embedded library.
func (d Description) InLibrary() bool { return d.Module == policies.LibraryFile(d.Policy).Name }

// parameterList lists the parameters, those that must be given first, each with its members after it.
func parameterList(p *policies.Parameters) []Parameter {
	if p == nil {
		return nil
	}
	required := make([]any, len(p.Required))
	for i, name := range p.Required {
		required[i] = name
	}
	return members("", map[string]any{"properties": p.Properties, "required": required})
}

// members lists the properties of an object's schema, with theirs, as prefix.name or prefix[].name.
func members(prefix string, schema map[string]any) []Parameter {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	names := slices.SortedFunc(maps.Keys(properties), func(a, b string) int {
		if must := slices.Contains(required, any(a)); must != slices.Contains(required, any(b)) {
			if must {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var list []Parameter
	for _, name := range names {
		property, _ := properties[name].(map[string]any)
		text, _ := property["description"].(string)
		list = append(list, Parameter{
			Name: prefix + name, Type: typeText(property), Default: property["default"],
			Required: slices.Contains(required, any(name)), Description: strings.TrimSpace(text),
		})
		list = append(list, members(prefix+name+".", property)...)
		if items, ok := property["items"].(map[string]any); ok {
			list = append(list, members(prefix+name+"[].", items)...)
		}
	}
	return list
}

// Inner reports whether it is a member of another parameter.
func (p Parameter) Inner() bool { return strings.Contains(p.Name, ".") }

// typeText says in words what a JSON schema asks for.
func typeText(schema map[string]any) string {
	if options, ok := schema["enum"].([]any); ok {
		return joinAny(options, " or ")
	}
	text := "any"
	switch t := schema["type"].(type) {
	case string:
		text = t
	case []any:
		text = joinAny(t, " or ")
	}
	switch items, _ := schema["items"].(map[string]any); {
	case text == "array" && items != nil:
		if text = typeText(items); strings.Contains(text, ", ") && !strings.HasPrefix(text, "{") {
			text = "(" + text + ")"
		}
		text = "list of " + text
	case text == "object":
		text = objectText(schema)
	}
	for _, key := range []string{"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"} {
		if limit, ok := schema[key]; ok {
			text += ", " + fmt.Sprintf(limitWords[key], limit)
		}
	}
	return text
}

var limitWords = map[string]string{
	"minimum": "minimum %v", "maximum": "maximum %v", "minLength": "length at least %v", "maxLength": "length at most %v",
	"minItems": "at least %v of them", "maxItems": "at most %v of them", "pattern": "pattern %v",
}

// objectText names the members of an object.
func objectText(schema map[string]any) string {
	if members, ok := schema["properties"].(map[string]any); ok && len(members) > 0 {
		names := make([]string, 0, len(members))
		for name := range members {
			names = append(names, name)
		}
		slices.Sort(names)
		return "{" + strings.Join(names, ", ") + "}"
	}
	if values, ok := schema["additionalProperties"].(map[string]any); ok {
		return "map to " + typeText(values)
	}
	return "object"
}

func joinAny(list []any, by string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, by)
}

// Suite is the suite of the policy: that of the embedded library, or the one beside its module. It is nil
// when there is none.
func (d Description) Suite() (*Suite, error) {
	var data []byte
	var err error
	dir := filepath.Dir(d.Module)
	if d.InLibrary() {
		dir = path.Join("eviction", d.Policy)
		data, err = fs.ReadFile(policies.LibraryFS(), path.Join(dir, source.SuiteFile))
	} else {
		data, err = os.ReadFile(filepath.Join(dir, source.SuiteFile))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read suite: %w", err)
	}
	return parse(dir, data)
}

// Example is an EvictionPolicy that binds a policy of the library with the parameters of a case of its
// suite: the first that refuses an eviction, if there is one, and that has what must be given.
func (d Description) Example(s *Suite) (string, error) {
	enforcement := v1alpha1.EnforcementEnforce
	if !slices.Contains(d.Effects, policies.Deny) && !slices.Contains(d.Effects, policies.Delay) {
		enforcement = v1alpha1.EnforcementWarn
	}
	more := map[string]any{}
	if c := d.exampleCase(s); c != nil {
		enforcement = cmp.Or(c.Enforcement, enforcement)
		if len(c.Parameters) > 0 {
			more["parameters"] = c.Parameters
		}
		if c.Match != nil {
			more["match"] = c.Match
		}
		if c.MaxHold != nil {
			more["maxHold"] = c.MaxHold
		}
	}
	text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\nspec:\n  library: %s\n  enforcement: %s\n",
		v1alpha1.APIVersion, v1alpha1.Kind, strings.ReplaceAll(d.Policy, "_", "-"), d.Policy, enforcement)
	if len(more) == 0 {
		return text, nil
	}
	raw, err := yaml.Marshal(more)
	return text + indented(string(raw)), err
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

// exampleCase chooses the case that an example is made of; nil when none will do.
func (d Description) exampleCase(s *Suite) *Case {
	if s == nil {
		return nil
	}
	complete := func(c *Case) bool {
		for _, p := range d.Parameters {
			if _, ok := c.Parameters[p.Name]; p.Required && !p.Inner() && !ok {
				return false
			}
		}
		return c.Expect.Problem == ""
	}
	refuses := func(c *Case) bool { return c.Expect.Outcome == policies.Delayed || c.Expect.Outcome == policies.Denied }
	for _, wanted := range []func(*Case) bool{
		func(c *Case) bool { return refuses(c) && len(c.Parameters) > 0 },
		refuses,
		func(*Case) bool { return true },
	} {
		for i := range s.Cases {
			if c := &s.Cases[i]; complete(c) && wanted(c) {
				return c
			}
		}
	}
	return nil
}

// Messages are what a suite expects clients to be told, each once.
func (s *Suite) Messages() []string {
	var list []string
	for _, c := range s.Cases {
		for _, m := range append([]string{c.Expect.Message}, c.Expect.Warnings...) {
			if m != "" && !slices.Contains(list, m) {
				list = append(list, m)
			}
		}
	}
	return list
}

// DefaultText is the default as it is written; empty when there is none.
func (p Parameter) DefaultText() string {
	if p.Default == nil {
		return ""
	}
	raw, err := json.Marshal(p.Default)
	if err != nil {
		return fmt.Sprint(p.Default)
	}
	return string(raw)
}
