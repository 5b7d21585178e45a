package policies

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// File is one policy source: a Rego module or a YAML stream of EvictionPolicies.
type File struct {
	Name string
	Data []byte
}

// ReadDir reads the policy sources below a directory, sorted by name: *.rego without tests, and
// *.yaml, *.yml. Suites, samples and hidden files are left out. A single file is accepted, too.
func ReadDir(root string) ([]File, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	if !info.IsDir() {
		data, err := os.ReadFile(root)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		return []File{{Name: root, Data: data}}, nil
	}
	// A mounted ConfigMap is a symlinked directory: os.DirFS on the resolved path follows it.
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	files, err := readFS(os.DirFS(resolved))
	if err != nil {
		return nil, fmt.Errorf("read policies in %s: %w", root, err)
	}
	for i := range files {
		files[i].Name = filepath.Join(root, files[i].Name)
	}
	return files, nil
}

func readFS(fsys fs.FS) ([]File, error) {
	var files []File
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name != "." && skippedDir(d.Name())):
			return fs.SkipDir
		case !isSource(d.Name()):
			return nil
		}
		// Stat follows links: a ConfigMap's files are links into a hidden directory.
		if info, err := fs.Stat(fsys, name); err != nil || info.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		files = append(files, File{Name: name, Data: data})
		return nil
	})
	return files, err
}

func skippedDir(name string) bool {
	return strings.HasPrefix(name, ".") || name == "samples" || name == "testdata"
}

// IsSource says whether a file, by its slash-separated path below the root, is one that ReadDir reads.
func IsSource(name string) bool {
	dir, base := path.Split(path.Clean(name))
	return !slices.ContainsFunc(strings.Split(dir, "/"), skippedDir) && isSource(base)
}

func isSource(name string) bool {
	if strings.HasPrefix(name, ".") || name == suiteFile {
		return false
	}
	switch path.Ext(name) {
	case ".rego":
		return !isTest(name)
	case ".yaml", ".yml":
		return true
	}
	return false
}

// binding says how one policy is applied.
type binding struct {
	name        string
	file        string
	policy      string
	parameters  map[string]any
	enforcement Enforcement // empty: the policy's own default
	match       matcher
	maxHold     time.Duration // 0: no limit
	place       places
}

// sources is what files hold, before it is compiled.
type sources struct {
	modules  []File // Rego only
	bindings []binding
	// inline are those modules that EvictionPolicies hold, by their name.
	inline map[string]inlineModule
	// library lists the ids of the embedded library that bindings name.
	library []string
	// examples gives a policy that no binding names the examples of its parameters.
	examples bool
	// digest is fed with every source, in the order of names.
	digest hash.Hash
}

// revision identifies sources by content, not by where they were read from: equal sources have equal
// revisions on every replica.
// It covers which policies are bound, since Default and Library hold the same sources.
func (s *sources) revision(bound []binding) string {
	for _, id := range s.library {
		s.digest.Write(libraryFile(id).Data)
	}
	for _, b := range bound {
		fmt.Fprintf(s.digest, "%s %s\n", b.name, b.policy)
	}
	return hex.EncodeToString(s.digest.Sum(nil))[:12]
}

// parseFiles splits files into modules and bindings, and reports all that is wrong with them.
func parseFiles(files []File) (sources, Problems) {
	s := sources{digest: sha256.New()}
	return s, s.addFiles(slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) }))
}

func (s *sources) addFiles(files []File) Problems {
	var problems Problems
	for _, f := range files {
		fmt.Fprintf(s.digest, "%s %d\n", path.Ext(f.Name), len(f.Data))
		s.digest.Write(f.Data)
		if path.Ext(f.Name) == ".rego" {
			s.modules = append(s.modules, f)
			continue
		}
		problems = append(problems, s.addYAML(f)...)
	}
	return problems
}

func (s *sources) addYAML(f File) Problems {
	var problems Problems
	for _, doc := range splitYAML(string(f.Data)) {
		if strings.TrimSpace(stripComments(doc.text)) != "" {
			problems = append(problems, s.addPolicy(f.Name, doc)...)
		}
	}
	return problems
}

// placed gives an error the place of the YAML document in which it was found; a syntax error names
// its own line, counted from the document's first.
func placed(err error, file string, row int) Problems {
	message := err.Error()
	if m := yamlLine.FindStringSubmatchIndex(message); m != nil {
		line, _ := strconv.Atoi(message[m[2]:m[3]])
		row += line - 1
		message = message[:m[0]] + message[m[1]:]
	}
	return Problems{{File: file, Row: row, Message: oneLine(message)}}
}

var yamlLine = regexp.MustCompile(`line ([0-9]+): `)

// yamlDoc is one document of a YAML stream, with the row in which it begins.
type yamlDoc struct {
	row  int
	text string
}

func splitYAML(s string) []yamlDoc {
	docs := []yamlDoc{{row: 1}}
	row := 0
	for line := range strings.Lines(s) {
		row++
		if strings.TrimRight(line, " \r\n") == "---" {
			docs = append(docs, yamlDoc{row: row + 1})
			continue
		}
		docs[len(docs)-1].text += line
	}
	return docs
}

func stripComments(doc string) string {
	var kept []string
	for line := range strings.SplitSeq(doc, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func (s *sources) addPolicy(file string, doc yamlDoc) Problems {
	m := newManifest(file, doc)
	if problems := m.check(); len(problems) > 0 {
		return problems
	}
	var p v1alpha1.EvictionPolicy
	if err := yaml.UnmarshalStrict([]byte(doc.text), &p); err != nil {
		return m.unreadable(err)
	}
	b, errs := newBinding(file, &p)
	var problems Problems
	for _, err := range errs {
		problems = append(problems, m.problemOf(err))
	}
	b.place = m.at
	if p.Spec.Rego != "" && p.Spec.Library == "" {
		problems = append(problems, s.addInline(newInlineModule(m, p.Name, p.Spec.Rego), &b)...)
	} else {
		s.library = append(s.library, p.Spec.Library)
	}
	if len(problems) == 0 {
		s.bindings = append(s.bindings, b)
	}
	return problems
}

// addInline adds the module that a binding holds.
func (s *sources) addInline(inline inlineModule, b *binding) Problems {
	if s.inline == nil {
		s.inline = map[string]inlineModule{}
	}
	s.inline[inline.Name] = inline
	module, problems := parseModule(inline.File)
	if len(problems) > 0 {
		return s.locate(problems)
	}
	if b.policy = policyID(module); b.policy == "" {
		return s.locate(Problems{problemAt(module.Package.Location, "spec.rego must be a policy, package eviction.<id>; a helper below lib stands in a .rego file")})
	}
	s.modules = append(s.modules, inline.File)
	return nil
}

// newBinding reads what an EvictionPolicy says, and tells all that is wrong with it.
func newBinding(file string, p *v1alpha1.EvictionPolicy) (b binding, errs []error) {
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fieldErrorf(field, format, args...))
	}
	switch {
	case p.Name == "":
		wrong("metadata.name", "metadata.name is missing")
	case p.Spec.Library != "" && p.Spec.Rego != "":
		wrong("spec.library", "spec.library and spec.rego are both set; leave one of them out")
	case p.Spec.Library == "" && p.Spec.Rego == "":
		wrong("spec", "spec has neither library, the id of a shipped policy, nor rego, a policy of your own; set one of them")
	case p.Spec.Library != "" && !slices.Contains(LibraryIDs(), p.Spec.Library):
		wrong("spec.library", "the library has no policy %s%s", p.Spec.Library, instead(p.Spec.Library, LibraryIDs()))
	}
	enforcement, err := parseEnforcement(string(p.Spec.Enforcement))
	if err != nil {
		wrong("spec.enforcement", "spec.enforcement is %s; it must be Enforce, Warn or Audit", p.Spec.Enforcement)
	}
	match, err := newMatcher(p.Spec.Match)
	if err != nil {
		errs = append(errs, err)
	}
	parameters, err := parametersGiven(p.Spec.Parameters)
	if err != nil {
		wrong("spec.parameters", "spec.parameters: %w", err)
	}
	b = binding{name: p.Name, file: file, policy: p.Spec.Library, parameters: parameters, enforcement: cmp.Or(enforcement, Enforce), match: match}
	if p.Spec.MaxHold != nil {
		if b.maxHold = p.Spec.MaxHold.Duration; b.maxHold <= 0 {
			wrong("spec.maxHold", "spec.maxHold is %s; give a time such as 24h, or leave it out for no limit", b.maxHold)
		}
	}
	return b, errs
}

// parametersGiven reads spec.parameters. Numbers stay as they are written.
func parametersGiven(raw *runtime.RawExtension) (map[string]any, error) {
	if raw == nil || len(raw.Raw) == 0 {
		return nil, nil
	}
	given, ok := viaPlainJSON(json.RawMessage(raw.Raw)).(map[string]any)
	if !ok && string(raw.Raw) != "null" {
		return nil, errors.New("expected a map from parameters to values")
	}
	return given, nil
}

func parseEnforcement(s string) (Enforcement, error) {
	switch e := Enforcement(strings.ToLower(s)); e {
	case "", Enforce, Warn, Audit:
		return e, nil
	}
	return "", fmt.Errorf("%q is none of enforce, warn, audit", s)
}
