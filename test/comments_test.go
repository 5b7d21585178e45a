package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These pages of docs/ are made of the comments on Go types, so that what authors read and what the code says are
// one text. TestPagesFromComments -update writes them.
var fromComments = []typesPage{
	{
		file: "../docs/input.md", root: "policies.Input", path: "input",
		head: "# What a policy sees\n\n" +
			"`input` is total: every key of ours is always there, null or empty rather than absent, so that a policy cannot become\n" +
			"undefined by a missing key. Ask with `is_null(input.node)`, not with `not input.node`. Only what the loaded policies read\n" +
			"is gathered. Keys are snake_case; Kubernetes' own objects keep their camelCase, and leave out what is not set.\n\n" +
			"`evictgate policy eval --input NAMESPACE/NAME` prints what the policies read of a real one.\n" +
			"[policies/schema/input.json](../policies/schema/input.json) is the same as a JSON schema, for editors and `opa check -s`;\n" +
			"policies are compiled strictly against it.\n",
		instead: strings.NewReplacer(": see Evictor.", "; see [who evicts](policies.md#who-evicts)."),
	},
	{
		file: "../docs/evictionpolicy.md", root: "v1alpha1.EvictionPolicy", path: "",
		head: "# EvictionPolicy\n\n" +
			"`evictgate.dev/v1alpha1`, cluster-scoped, short name `evp`. [Policies](policies.md#bind-a-policy) says how it is used,\n" +
			"`kubectl explain evictionpolicy.spec` prints what stands here.\n",
	},
	{
		file: "../docs/suites.md", root: "suite.Suite", path: "suite.yaml",
		head: "# Suites\n\n" +
			"`suite.yaml` stands beside a policy. `evictgate policy test` decides each of its cases as the server would, over a sample\n" +
			"of a cluster, and compares. `evictgate policy new ID` writes one to begin with; the library's are in\n" +
			"[policies/eviction](../policies/eviction).\n",
	},
}

func TestPagesFromComments(t *testing.T) {
	types := typesBelow(t, "../policies")
	for _, p := range fromComments {
		t.Run(filepath.Base(p.file), func(t *testing.T) { holdPage(t, p.file, p.render(t, types)) })
	}
}

// holdPage compares a page with what it is made of, or writes it with -update.
func holdPage(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if readText(t, file) != want {
		t.Errorf("%s is not what it is made of; run make generate", file)
	}
}

// typesPage is a page about a struct and the structs in it.
type typesPage struct {
	file, head string
	// root is the struct, with its package; path is how its value is called.
	root, path string
	// instead replaces what only readers of the code understand; nil for nothing.
	instead *strings.Replacer
}

// goType is a type as it is declared, and where.
type goType struct {
	pkg, doc string
	expr     ast.Expr
}

// typesBelow are the types of the packages below a directory, by package and name.
func typesBelow(t *testing.T, root string) map[string]goType {
	t.Helper()
	types := map[string]goType{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			declared, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range declared.Specs {
				if s, ok := s.(*ast.TypeSpec); ok {
					types[file.Name.Name+"."+s.Name.Name] = goType{file.Name.Name, comment(declared.Doc), s.Type}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// comment is the text of a comment as one line, without markers of other tools.
func comment(g *ast.CommentGroup) string {
	var lines []string
	for line := range strings.Lines(g.Text()) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "+") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, " "))
}

// key is a field of a struct as it stands in JSON or YAML.
type key struct {
	name, goName, doc, initial string
	expr                       ast.Expr
}

var initial = regexp.MustCompile(`\+kubebuilder:default=(\S+)`)

// keysOf are the fields of a struct, those of embedded structs included.
func keysOf(t *testing.T, types map[string]goType, of goType) (keys []key) {
	t.Helper()
	declared, ok := of.expr.(*ast.StructType)
	if !ok {
		t.Fatalf("%T is not a struct", of.expr)
	}
	for _, f := range declared.Fields.List {
		if f.Tag == nil {
			continue
		}
		name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && len(f.Names) == 0:
			if inner, ok := types[typeName(of.pkg, f.Type)]; ok {
				keys = append(keys, keysOf(t, types, inner)...)
			}
		default:
			k := key{name: name, doc: comment(f.Doc), expr: f.Type}
			if len(f.Names) > 0 {
				k.goName = f.Names[0].Name
			}
			if m := initial.FindStringSubmatch(f.Doc.Text()); m != nil {
				k.initial = m[1]
			}
			keys = append(keys, k)
		}
	}
	return keys
}

// typeName is the name of a type with its package, empty for what has none.
func typeName(pkg string, expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.Ident:
		return pkg + "." + e.Name
	case *ast.SelectorExpr:
		return e.X.(*ast.Ident).Name + "." + e.Sel.Name
	}
	return ""
}

// words says what a type is for people, and which struct of ours is in it.
func words(types map[string]goType, pkg string, expr ast.Expr) (text, inner string) {
	switch e := expr.(type) {
	case *ast.StarExpr:
		text, inner = words(types, pkg, e.X)
		return text + " or null", inner
	case *ast.ArrayType:
		text, inner = words(types, pkg, e.Elt)
		return "list of " + text, inner
	case *ast.MapType:
		text, inner = words(types, pkg, e.Value)
		return "map of " + text, inner
	}
	name := typeName(pkg, expr)
	if known, ok := types[name]; ok {
		if _, ok := known.expr.(*ast.StructType); ok {
			return "object", name
		}
		return words(types, known.pkg, known.expr)
	}
	bare := name[strings.LastIndex(name, ".")+1:]
	switch bare {
	case "string", "any":
		return bare, ""
	case "bool":
		return "boolean", ""
	case "int", "int32", "int64":
		return "integer", ""
	case "Time":
		return "time", ""
	case "Duration":
		return "duration", ""
	case "RawExtension":
		return "object", ""
	}
	return "Kubernetes' " + bare, ""
}

func (p typesPage) render(t *testing.T, types map[string]goType) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("<!-- Generated from the comments of " + p.root + " and the types in it; make generate rewrites it. -->\n" + p.head)
	type section struct{ name, path string }
	seen := map[string]string{p.root: p.path} // by the name of a type, where it is described
	for waiting := []section{{p.root, p.path}}; len(waiting) > 0; waiting = waiting[1:] {
		now := waiting[0]
		of, ok := types[now.name]
		if !ok {
			t.Fatalf("there is no type %s", now.name)
		}
		keys := keysOf(t, types, of)
		if now.path != p.path {
			fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", now.path, p.plain(of.doc, lastOf(now.name), lastOf(now.path), keys))
		}
		b.WriteString("\n| key | type | meaning |\n|---|---|---|\n")
		var below []section // they follow at once
		for i, k := range keys {
			text, inner := words(types, of.pkg, k.expr)
			meaning := p.plain(k.doc, k.goName, k.name, keys)
			if k.doc == "" && k.goName != "" && i > 0 && strings.Contains(keys[i-1].doc, k.goName+" ") {
				meaning = "See `" + keys[i-1].name + "`."
			}
			if k.initial != "" {
				meaning += " Default: `" + k.initial + "`."
			}
			if inner != "" {
				path := strings.TrimPrefix(now.path+"."+k.name, ".")
				if p.path == "suite.yaml" {
					path = strings.TrimPrefix(path, "suite.yaml.")
				}
				if seen[inner] == "" {
					seen[inner] = path
					below = append(below, section{inner, path})
				}
				text = strings.Replace(text, "object", "["+seen[inner]+"](#"+anchorsOf("# `" + seen[inner] + "`")[0]+")", 1)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.name, text, inCell.Replace(meaning))
		}
		waiting = slices.Insert(waiting, 1, below...)
	}
	return b.String()
}

// inCell makes text fit for a table's cell.
var inCell = strings.NewReplacer("|", `\|`, "<", "&lt;")

func lastOf(path string) string { return path[strings.LastIndex(path, ".")+1:] }

var isOrAre = regexp.MustCompile(`^(is|are) `)

// plain turns a Go comment about what the code calls goName into one about the key that people write.
func (p typesPage) plain(doc, goName, name string, keys []key) string {
	if doc == "" {
		return ""
	}
	if p.instead != nil {
		doc = p.instead.Replace(doc)
	}
	if rest, ok := strings.CutPrefix(doc, goName+" "); ok {
		if shorter := isOrAre.ReplaceAllString(rest, ""); shorter != rest && !strings.HasPrefix(rest, "are over ") {
			doc = strings.ToUpper(shorter[:1]) + shorter[1:]
		} else {
			doc = "`" + name + "` " + rest
		}
	}
	for _, k := range slices.SortedFunc(slices.Values(keys), func(a, b key) int { return len(b.goName) - len(a.goName) }) {
		if k.goName != "" && k.goName != "Name" {
			doc = regexp.MustCompile(`(^|[ (])`+k.goName+`( and | are | is | in |,|\.|\)| must | of | or )`).ReplaceAllString(doc, "${1}`"+k.name+"`${2}")
		}
	}
	return doc
}
