package source

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/fields"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// manifest is one YAML document that should be an EvictionPolicy.
type manifest struct {
	file string
	// object says that the document is that of an object, whose places are its fields.
	object bool
	doc    yamlDoc
	at     rego.Places
}

func newManifest(f policies.File, doc yamlDoc) manifest {
	return manifest{f.Name, f.Object, doc, rego.NewPlaces(doc.text, doc.row)}
}

// check holds the document to the fields of an EvictionPolicy, each finding at its line: a decoder of JSON
// says of an unknown field neither where it is nor what is meant, and stops at the first.
func (m manifest) check() policies.Problems {
	root := m.at.Root
	if root == nil {
		return nil // no YAML; the decoder tells
	}
	if root.Kind != yaml.MappingNode {
		return policies.Problems{m.problem("", fmt.Sprintf("not an %s: expected a map with apiVersion, kind, metadata and spec", v1alpha1.Kind))}
	}
	if p, ok := m.checkKind(root); !ok {
		return policies.Problems{p}
	}
	return m.fields(root, reflect.TypeFor[v1alpha1.EvictionPolicy](), "")
}

func (m manifest) checkKind(root *yaml.Node) (policies.Problem, bool) {
	found := map[string]string{}
	for key, want := range map[string]string{"apiVersion": v1alpha1.APIVersion, "kind": v1alpha1.Kind} {
		if _, value := rego.LookUp(root, key); value == nil || value.Value != want {
			found[key] = ""
		}
	}
	if len(found) == 0 {
		return policies.Problem{}, true
	}
	wrong := "kind"
	if _, ok := found["apiVersion"]; ok {
		wrong = "apiVersion"
	}
	text := func(key string) string {
		if _, value := rego.LookUp(root, key); value != nil {
			return value.Value
		}
		return ""
	}
	return m.problem(wrong, fmt.Sprintf("expected apiVersion %s and kind %s, found %q and %q",
		v1alpha1.APIVersion, v1alpha1.Kind, text("apiVersion"), text("kind"))), false
}

// problem is a finding about the field of that path.
func (m manifest) problem(path, message string) policies.Problem {
	p := policies.Problem{File: m.file, Row: m.doc.row, Path: path, Message: rego.OneLine(message)}
	if row, col := m.at.At(rego.SplitPath(path)...); row > 0 {
		p.Row, p.Col = row, col
	}
	return p
}

// problemOf is the finding that an error tells, at its field when it names one.
func (m manifest) problemOf(err error) policies.Problem {
	return m.problem(rego.FieldOf(err), err.Error())
}

// fields compares a node with the Go type it is read into.
func (m manifest) fields(n *yaml.Node, t reflect.Type, path string) policies.Problems {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	switch t {
	case reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[metav1.FieldsV1](), reflect.TypeFor[metav1.Time]():
		return nil
	case reflect.TypeFor[metav1.Duration]():
		return m.duration(n, path)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.fields(n, t.Elem(), path)
	case reflect.Struct:
		return m.members(n, t, path)
	case reflect.Map:
		return m.entries(n, t, path)
	case reflect.Slice:
		return m.items(n, t, path)
	}
	return m.scalar(n, t, path)
}

// scalarTags are the YAML tags of the Go kinds that an EvictionPolicy has.
var scalarTags = map[reflect.Kind]struct{ tag, word string }{
	reflect.String: {"!!str", "a string"},
	reflect.Bool:   {"!!bool", "true or false"},
	reflect.Int32:  {"!!int", "a number"},
	reflect.Int64:  {"!!int", "a number"},
}

func (m manifest) scalar(n *yaml.Node, t reflect.Type, path string) policies.Problems {
	want, ok := scalarTags[t.Kind()]
	switch {
	case !ok || n.Tag == want.tag:
		return nil
	case n.Kind != yaml.ScalarNode:
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be %s, not %s", path, want.word, kindOfNode(n)))}
	case t.Kind() == reflect.String:
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be a string; put %s in quotes", path, n.Value))}
	}
	return policies.Problems{m.problem(path, fmt.Sprintf("%s must be %s, not %q", path, want.word, n.Value))}
}

func (m manifest) duration(n *yaml.Node, path string) policies.Problems {
	if _, err := time.ParseDuration(n.Value); n.Kind != yaml.ScalarNode || n.Tag != "!!str" || err != nil {
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be a time such as 24h or 90m, not %q; the longest unit is h", path, n.Value))}
	}
	return nil
}

func (m manifest) members(n *yaml.Node, t reflect.Type, path string) policies.Problems {
	if n.Kind != yaml.MappingNode {
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be a map, not %s", path, kindOfNode(n)))}
	}
	known := map[string]reflect.Type{}
	var names []string
	for _, f := range fields.Of(t) {
		known[f.Name] = t.FieldByIndex(f.Index).Type
		names = append(names, f.Name)
	}
	slices.Sort(names)
	seen := map[string]int{}
	var problems policies.Problems
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		below := strings.TrimPrefix(under(path, key.Value), ".")
		of, ok := known[key.Value]
		switch {
		case key.Tag == "!!merge":
		case seen[key.Value] > 0:
			problems = append(problems, m.problemAt(key, below, fmt.Sprintf("%s stands in line %d already", below, m.at.Row+seen[key.Value]-1)))
		case !ok:
			problems = append(problems, m.problemAt(key, below, fmt.Sprintf("there is no field %s%s", below, rego.Instead(key.Value, names))))
		default:
			problems = append(problems, m.fields(value, of, below)...)
		}
		seen[key.Value] = key.Line
	}
	return problems
}

func (m manifest) problemAt(n *yaml.Node, path, message string) policies.Problem {
	return policies.Problem{File: m.file, Row: m.at.Row + n.Line - 1, Col: n.Column, Path: path, Message: rego.OneLine(message)}
}

// under is the path of a member; a key that does not show as it stands is quoted.
func under(path, key string) string {
	if key == "" || rego.OneLine(key) != key {
		key = strconv.Quote(key)
	}
	return path + "." + key
}

func (m manifest) entries(n *yaml.Node, t reflect.Type, path string) policies.Problems {
	if n.Kind != yaml.MappingNode {
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be a map, not %s", path, kindOfNode(n)))}
	}
	var problems policies.Problems
	for i := 0; i+1 < len(n.Content); i += 2 {
		if found := m.fields(n.Content[i+1], t.Elem(), under(path, n.Content[i].Value)); len(found) > 0 {
			found[0].Row, found[0].Col = m.at.Row+n.Content[i].Line-1, n.Content[i].Column
			problems = append(problems, found...)
		}
	}
	return problems
}

func (m manifest) items(n *yaml.Node, t reflect.Type, path string) policies.Problems {
	if n.Kind != yaml.SequenceNode {
		return policies.Problems{m.problem(path, fmt.Sprintf("%s must be a list, not %s; begin each member with a dash", path, kindOfNode(n)))}
	}
	var problems policies.Problems
	for i, item := range n.Content {
		problems = append(problems, m.fields(item, t.Elem(), path+"["+strconv.Itoa(i)+"]")...)
	}
	return problems
}

func kindOfNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(n.Value)
}

// unreadable says what is wrong with a document that is not YAML or does not fit, as the decoder tells.
func (m manifest) unreadable(err error) policies.Problems {
	if row, col := m.tab(); row > 0 && m.at.Root == nil {
		return policies.Problems{{File: m.file, Row: row, Col: col, Message: "YAML is indented with blanks; this line has a tab"}}
	}
	problems := placed(err, m.file, m.doc.row)
	problems[0].Message = fmt.Sprintf("not an %s: %s", v1alpha1.Kind, decoderNoise.ReplaceAllString(problems[0].Message, ""))
	return problems
}

var decoderNoise = regexp.MustCompile(`error (?:converting YAML to JSON|unmarshaling JSON): |while decoding JSON: |yaml: |json: `)

// tab finds a tab that indents a line.
func (m manifest) tab() (row, col int) {
	row = m.doc.row
	for line := range strings.Lines(m.doc.text) {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 {
			return row, i + 1
		}
		row++
	}
	return 0, 0
}

// inlineModule is the Rego of an EvictionPolicy, as a file of its own.
type inlineModule struct {
	policies.File
	manifest manifest
}

// newInlineModule names the module after its EvictionPolicy, so that what evaluation tells can be found.
func newInlineModule(m manifest, policy, text string) inlineModule {
	name := fmt.Sprintf("%s (%s spec.rego)", m.file, policy)
	if m.object {
		name = m.file + " spec.rego"
	}
	return inlineModule{policies.File{Name: name, Data: []byte(text)}, m}
}

// locate gives a finding in the module its place in the YAML file. Only a literal block, `rego: |`, has
// the lines of the text; of any other style the field is the place, and the message says where in it.
func (i inlineModule) locate(p policies.Problem) policies.Problem {
	p.File, p.Path, p.InnerRow, p.InnerCol = i.manifest.file, "spec.rego", p.Row, p.Col
	p.Row, p.Col = 0, 0
	if i.manifest.object {
		return p
	}
	p.Row, p.Col = i.manifest.at.At("spec", "rego")
	_, spec := rego.LookUp(i.manifest.at.Root, "spec")
	_, block := rego.LookUp(spec, "rego")
	if block == nil || p.InnerRow == 0 {
		return p
	}
	if block.Kind == yaml.AliasNode {
		block = block.Alias
	}
	indent, ok := i.manifest.indentOf(block)
	if !ok {
		within := p
		within.Severity = 0 // which is said before the message
		p.Message = within.AtField()
		return p
	}
	p.Row, p.Col = i.manifest.at.Row+block.Line-1+p.InnerRow, 0
	if p.InnerCol > 0 {
		p.Col = indent + p.InnerCol
	}
	return p
}

// indentOf is by how much a literal block is indented in the file.
func (m manifest) indentOf(block *yaml.Node) (int, bool) {
	if block.Style&yaml.LiteralStyle == 0 {
		return 0, false
	}
	lines := strings.Split(m.doc.text, "\n")
	for i, line := range strings.Split(block.Value, "\n") {
		if strings.TrimSpace(line) == "" || block.Line+i >= len(lines) {
			continue
		}
		if at := strings.Index(lines[block.Line+i], line); at >= 0 {
			return at, true
		}
		return 0, false
	}
	return 0, false
}

// Locate moves findings in the Rego of EvictionPolicies to their place in the YAML.
func (s *Parsed) Locate(problems policies.Problems) policies.Problems {
	for i, p := range problems {
		if inline, ok := s.inline[p.File]; ok {
			problems[i] = inline.locate(p)
		}
	}
	return problems
}
