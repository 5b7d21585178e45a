package source

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// ReadDir reads the policy sources below a directory, sorted by name: *.rego without tests, and
// *.yaml, *.yml. Suites, samples and hidden files are left out. A single file is accepted, too.
func ReadDir(root string) ([]policies.File, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	if !info.IsDir() {
		data, err := os.ReadFile(root)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		return []policies.File{{Name: root, Data: data}}, nil
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

func readFS(fsys fs.FS) ([]policies.File, error) {
	var files []policies.File
	var seen, size int
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case seen == maxEntries:
			return fmt.Errorf("there are more than %d files and directories; name the directory of the policies alone", maxEntries)
		}
		seen++
		switch {
		case d.IsDir() && (name != "." && SkipsDir(d.Name())):
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
		if size += len(data); size > maxSources {
			return fmt.Errorf("the policies have more than %d MiB; see %s", maxSources>>20, name)
		}
		files = append(files, policies.File{Name: name, Data: data})
		return nil
	})
	return files, err
}

// maxEntries and maxSources bound a directory: how many files and directories, and how many bytes of sources.
const (
	maxEntries = 20_000
	maxSources = 32 << 20
)

// SkipsDir reports whether a directory of that name holds no policies: hidden ones and samples.
func SkipsDir(name string) bool {
	return strings.HasPrefix(name, ".") || name == "samples" || name == "testdata"
}

// IsSource says whether a file, by its slash-separated path below the root, is one that ReadDir reads.
func IsSource(name string) bool {
	dir, base := path.Split(path.Clean(name))
	return !slices.ContainsFunc(strings.Split(dir, "/"), SkipsDir) && isSource(base)
}

func isSource(name string) bool {
	if strings.HasPrefix(name, ".") || name == SuiteFile {
		return false
	}
	switch path.Ext(name) {
	case ".rego":
		return !IsTest(name)
	case ".yaml", ".yml":
		return true
	}
	return false
}

// Parsed is what files hold, before it is compiled.
type Parsed struct {
	policies.Parts
	// inline are those modules that EvictionPolicies hold, by their name.
	inline map[string]inlineModule
}

// Load compiles the policies of directories or files as one set. The error is of type Problems when the
// sources were read but cannot be used; a set without a policy is an error, too.
func Load(paths ...string) (*policies.Set, error) {
	files, err := ReadPaths(paths...)
	if err != nil {
		return nil, err
	}
	return CompileFiles(files, paths...)
}

// CompileFiles compiles what was read from some paths, as Load does.
func CompileFiles(files []policies.File, paths ...string) (*policies.Set, error) {
	set, err := Compile(files)
	if err == nil && len(set.Policies()) == 0 {
		return nil, NoPolicy(strings.Join(paths, ", "))
	}
	return set, err
}

// ReadPaths reads the policy sources of directories or files: see ReadDir.
func ReadPaths(paths ...string) ([]policies.File, error) {
	var files []policies.File
	for _, path := range paths {
		more, err := ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// Compile compiles Rego modules and EvictionPolicies into a set. Its error is of type Problems.
func Compile(files []policies.File) (*policies.Set, error) {
	s, problems := Parse(files)
	set, problems := s.Compile(problems)
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}

// Compile binds every policy of the sources, unless problems were found already: then those of the modules
// are told, too, so that one run shows everything.
func (s *Parsed) Compile(problems policies.Problems) (*policies.Set, policies.Problems) {
	if len(problems) > 0 {
		return nil, append(problems, s.Locate(s.Problems)...)
	}
	set, problems := policies.New(s.Parts)
	if len(problems) > 0 {
		return nil, s.Locate(problems)
	}
	return set, nil
}

// Parse splits files into modules and bindings, and reports all that is wrong with the latter.
func Parse(files []policies.File) (*Parsed, policies.Problems) {
	s := &Parsed{}
	return s, s.addFiles(slices.SortedFunc(slices.Values(files), func(a, b policies.File) int { return cmp.Compare(a.Name, b.Name) }))
}

func (s *Parsed) addFiles(files []policies.File) policies.Problems {
	var problems policies.Problems
	for _, f := range files {
		if s.Add(f); f.Ext() != ".rego" {
			problems = append(problems, s.addYAML(f)...)
		}
	}
	return problems
}

func (s *Parsed) addYAML(f policies.File) policies.Problems {
	var problems policies.Problems
	for _, doc := range splitYAML(string(f.Data)) {
		if strings.TrimSpace(stripComments(doc.text)) != "" {
			problems = append(problems, s.addPolicy(f, doc)...)
		}
	}
	if f.Object {
		for i := range problems {
			problems[i].Row, problems[i].Col = 0, 0
		}
	}
	return problems
}

// placed gives an error the place of the YAML document in which it was found; a syntax error names
// its own line, counted from the document's first.
func placed(err error, file string, row int) policies.Problems {
	message := err.Error()
	if m := rego.YAMLLine.FindStringSubmatchIndex(message); m != nil {
		line, _ := strconv.Atoi(message[m[2]:m[3]])
		row += line - 1
		message = message[:m[0]] + message[m[1]:]
	}
	return policies.Problems{{File: file, Row: row, Message: rego.OneLine(message)}}
}

// yamlDoc is one document of a YAML stream, with the row in which it begins.
type yamlDoc struct {
	row  int
	text string
}

func splitYAML(s string) []yamlDoc {
	docs := []yamlDoc{{row: 1}}
	row, at, begin := 0, 0, 0
	for line := range strings.Lines(s) {
		row++
		if strings.TrimRight(line, " \r\n") == "---" {
			docs[len(docs)-1].text = s[begin:at]
			begin = at + len(line)
			docs = append(docs, yamlDoc{row: row + 1})
		}
		at += len(line)
	}
	docs[len(docs)-1].text = s[begin:]
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

func (s *Parsed) addPolicy(f policies.File, doc yamlDoc) policies.Problems {
	m := newManifest(f, doc)
	if problems := m.check(); len(problems) > 0 {
		return problems
	}
	var p v1alpha1.EvictionPolicy
	if err := yaml.UnmarshalStrict([]byte(doc.text), &p); err != nil {
		return m.unreadable(err)
	}
	b, errs := policies.NewBinding(f.Name, &p)
	var problems policies.Problems
	for _, err := range errs {
		problems = append(problems, m.problemOf(err))
	}
	if b.Object = f.Object; !b.Object {
		b.Places = m.at
	}
	if p.Spec.Rego != "" && p.Spec.Library == "" {
		problems = append(problems, s.addInline(newInlineModule(m, p.Name, p.Spec.Rego), &b)...)
	} else {
		s.Library = append(s.Library, p.Spec.Library)
	}
	if len(problems) == 0 {
		s.Bindings = append(s.Bindings, b)
	}
	return problems
}

// addInline adds the module that a binding holds.
func (s *Parsed) addInline(inline inlineModule, b *policies.Binding) policies.Problems {
	if s.inline == nil {
		s.inline = map[string]inlineModule{}
	}
	s.inline[inline.Name] = inline
	module, problems := policies.Language().Parse(inline.File)
	if len(problems) > 0 {
		return s.Locate(problems)
	}
	if b.Policy = rego.PolicyID(module); b.Policy == "" {
		return s.Locate(policies.Problems{rego.ProblemAt(module.Package.Location, "spec.rego must be a policy, package eviction.<id>; a helper below lib stands in a .rego file")})
	}
	s.Modules = append(s.Modules, module)
	return nil
}

// SuiteFile is the name of a suite beside its policy.
const SuiteFile = "suite.yaml"

// IsTest reports whether a file holds Rego tests.
func IsTest(file string) bool { return strings.HasSuffix(file, "_test.rego") }
