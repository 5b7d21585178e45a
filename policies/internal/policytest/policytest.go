// Package policytest is what the tests of the packages of policies share: policies as files, directories of
// them, goldens, and values at random.
package policytest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// update is the flag that make generate gives.
var update = flag.Bool("update", false, "rewrite generated files")

// Update reports whether generated files and goldens are to be written rather than compared.
func Update() bool { return *update }

// Policy is a file with a policy of the id and the rules.
func Policy(id, rules string) rego.File {
	return rego.File{Name: id + ".rego", Data: []byte("package eviction." + id + "\n\n" + rules + "\n")}
}

// Bind is a file with an EvictionPolicy; spec is YAML, one field a line.
func Bind(name, spec string) rego.File {
	lines := strings.ReplaceAll("\n"+spec, "\n", "\n  ")
	return rego.File{Name: name + ".yaml", Data: fmt.Appendf(nil, "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata:\n  name: %s\nspec:%s\n", name, lines)}
}

// Inline is an EvictionPolicy's spec that holds a policy.
func Inline(id, rules string) string {
	return "rego: |\n  package eviction." + id + "\n\n  " + strings.ReplaceAll(rules, "\n", "\n  ")
}

// Eviction is an Input, as JSON: admin evicts the running pod shop/web-0, which no policy and no budget holds.
const Eviction = `{
	"now": "2026-11-23T12:00:00Z",
	"request": {"uid": "r1", "namespace": "shop", "name": "web-0", "user": {"username": "admin", "groups": ["ops"]}, "evictor": "user"},
	"pod": {
		"metadata": {"namespace": "shop", "name": "web-0", "uid": "p0", "labels": {"app": "web"}},
		"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
	},
	"namespace": {"name": "shop", "labels": {"tier": "prod"}}
}`

// Write makes files below a directory.
func Write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		Must(t, os.WriteFile(name, []byte(text), 0o644))
	}
}

// Must ends the test with an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ProblemLines are the problems that an error is, one a line.
func ProblemLines(t testing.TB, err error) []string {
	t.Helper()
	var problems rego.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("the error is not Problems but %T: %v", err, err)
	}
	return strings.Split(problems.Error(), "\n")
}

// Golden compares lines with those of a file.
func Golden(t testing.TB, name string, lines []string) {
	t.Helper()
	text := strings.Join(append(lines, ""), "\n")
	if *update {
		Must(t, os.WriteFile(name, []byte(text), 0o644))
	}
	want, err := os.ReadFile(name)
	Must(t, err)
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s -want +got:\n%s", name, diff)
	}
}

// Generated compares a file with what it is made from, or writes it with -update.
func Generated(t testing.TB, file string, want []byte) {
	t.Helper()
	if *update {
		Must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		Must(t, os.WriteFile(file, want, 0o644))
	}
	got, err := os.ReadFile(file)
	Must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it is made from; run make generate", file)
	}
}

// MaxFuzzed keeps an input so short that no parser is slow for its length alone.
const MaxFuzzed = 8 << 10

// Seeds adds the files that a pattern finds.
func Seeds(f *testing.F, pattern string) {
	f.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no file %s (%v)", pattern, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		Must(f, err)
		f.Add(raw)
	}
}

// Any draws a value for everything in T that can be set, nil and empty values, too.
func Any[T any]() *rapid.Generator[*T] {
	return rapid.Custom(func(t *rapid.T) *T {
		v := new(T)
		fill(t, reflect.ValueOf(v).Elem(), 0)
		return v
	})
}

// fill draws a value for everything that can be set. What is deep is left out ever more often, so
// that a Pod does not grow without end.
func fill(t *rapid.T, v reflect.Value, depth int) {
	if fillSpecial(t, v) {
		return
	}
	present := func() bool { return rapid.IntRange(0, 2+depth).Draw(t, "present") < 2 }
	switch v.Kind() {
	case reflect.Pointer:
		if present() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), depth)
			}
		}
	case reflect.Slice:
		if present() {
			n := rapid.IntRange(0, 2).Draw(t, "len")
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if present() {
			v.Set(reflect.MakeMap(v.Type()))
			for range rapid.IntRange(0, 2).Draw(t, "len") {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, key, depth+1)
				fill(t, value, depth+1)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{true, "x", 1.5, []any{"y", nil}, map[string]any{"a": 1.0}}).Draw(t, "any")))
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "web", "a b", "ä\"\\\n<&>\u2028", "Ready", "app.kubernetes.io/name"}).Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(rapid.Int32().Draw(t, "int")))
	default:
		panic(fmt.Sprintf("fill does not know %s", v.Type()))
	}
}

func fillSpecial(t *rapid.T, v reflect.Value) bool {
	at := func() time.Time {
		if rapid.IntRange(0, 3).Draw(t, "zero time") == 0 {
			return time.Time{}
		}
		zone := time.FixedZone("", 3600*rapid.IntRange(-11, 14).Draw(t, "zone"))
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), 123456789).In(zone)
	}
	switch p := v.Addr().Interface().(type) {
	case *metav1.Time:
		p.Time = at()
	case *metav1.MicroTime:
		p.Time = at()
	case *resource.Quantity:
		*p = resource.MustParse(rapid.SampledFrom([]string{"0", "100m", "1.5", "2Gi", "1e3"}).Draw(t, "quantity"))
	case *intstr.IntOrString:
		*p = rapid.SampledFrom([]intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("50%"), {}}).Draw(t, "int or string")
	case *metav1.FieldsV1:
		p.SetRawBytes([]byte(`{"f:metadata":{}}`))
	default:
		return false
	}
	return true
}
