package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Needs is the part of the Input that a set of policies reads, as a tree of keys. It decides what
// is gathered and what is converted for OPA.
type Needs struct {
	// whole means that everything below is read.
	whole bool
	keys  map[string]*Needs
	// names are the keys, sorted.
	names []needKey
}

type needKey struct {
	name string
	need *Needs
}

// EverythingNeeded reads the whole Input.
func EverythingNeeded() *Needs { return &Needs{whole: true} }

// newNeeds builds the tree from refs such as input.pod.metadata.labels.app; other refs are ignored.
func newNeeds(refs []ast.Ref) *Needs {
	root := &Needs{}
	for _, ref := range refs {
		if len(ref) == 0 || !ref[0].Equal(ast.InputRootDocument) {
			continue
		}
		at := root
		for _, term := range ref[1:] {
			key, ok := term.Value.(ast.String)
			if !ok {
				break
			}
			at = at.child(string(key))
		}
		at.whole = true
	}
	root.seal()
	return root
}

func (n *Needs) child(key string) *Needs {
	if n.keys == nil {
		n.keys = map[string]*Needs{}
	}
	c, ok := n.keys[key]
	if !ok {
		c = &Needs{}
		n.keys[key] = c
	}
	return c
}

// seal fixes the order of the keys, and drops what a wholly read parent makes redundant.
func (n *Needs) seal() {
	if n.whole {
		n.keys, n.names = nil, nil
		return
	}
	for key, c := range n.keys {
		c.seal()
		n.names = append(n.names, needKey{name: key, need: c})
	}
	slices.SortFunc(n.names, func(a, b needKey) int { return strings.Compare(a.name, b.name) })
}

// Reads reports whether anything at or below the path is read, for example Reads("peers").
func (n *Needs) Reads(path ...string) bool {
	for _, key := range path {
		if n.whole {
			return true
		}
		c, ok := n.keys[key]
		if !ok {
			return false
		}
		n = c
	}
	return true
}

// Refs lists what is read as dotted paths, sorted, for example input.pod.metadata.labels.
func (n *Needs) Refs() []string {
	var refs []string
	n.walk("input", &refs)
	return refs
}

func (n *Needs) walk(prefix string, refs *[]string) {
	if n.whole {
		*refs = append(*refs, prefix)
		return
	}
	for _, k := range n.names {
		if isIdentifier(k.name) {
			k.need.walk(prefix+"."+k.name, refs)
		} else {
			k.need.walk(prefix+"["+strconv.Quote(k.name)+"]", refs)
		}
	}
}

func isIdentifier(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0
}

// projector converts a value of one Go type into OPA's representation.
type projector func(reflect.Value) (*ast.Term, error)

// projector makes the projector of a type, for what n needs of it: the json tags are followed once, as
// encoding/json does, not at every review. There is no JSON in between: on the hot path that would cost
// more than the evaluation itself.
func (n *Needs) projector(t reflect.Type) projector {
	switch {
	case t == timeType:
		return projectTime
	case t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(marshalerType):
		return projectViaJSON
	}
	switch t.Kind() {
	case reflect.Pointer:
		return orNull(n.projector(t.Elem()))
	case reflect.Interface:
		return orNull(func(v reflect.Value) (*ast.Term, error) { return n.projector(v.Type())(v) })
	case reflect.Struct:
		return n.structProjector(t)
	case reflect.Map:
		return n.mapProjector(t)
	case reflect.Slice, reflect.Array:
		return listProjector(t)
	case reflect.String:
		return func(v reflect.Value) (*ast.Term, error) { return ast.StringTerm(v.String()), nil }
	case reflect.Bool:
		return func(v reflect.Value) (*ast.Term, error) { return ast.InternedTerm(v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v reflect.Value) (*ast.Term, error) { return ast.InternedTerm(v.Int()), nil }
	default:
		return projectViaJSON
	}
}

var (
	timeType      = reflect.TypeFor[metav1.Time]()
	microTimeType = reflect.TypeFor[metav1.MicroTime]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

func projectTime(v reflect.Value) (*ast.Term, error) {
	at, _ := reflect.TypeAssert[metav1.Time](v)
	if at.IsZero() {
		return ast.InternedNullTerm, nil
	}
	return ast.StringTerm(at.UTC().Format(time.RFC3339)), nil
}

// projectViaJSON is the slow and general way, for the few types that need it (quantities,
// int-or-strings).
func projectViaJSON(v reflect.Value) (*ast.Term, error) {
	value, err := viaJSON(v)
	return ast.NewTerm(value), err
}

func viaJSON(v reflect.Value) (ast.Value, error) {
	if v.CanAddr() {
		v = v.Addr()
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("convert %s for the policies: %w", v.Type(), err)
	}
	return ast.ValueFromReader(bytes.NewReader(raw))
}

// orNull projects what a pointer or an interface holds.
func orNull(project projector) projector {
	return func(v reflect.Value) (*ast.Term, error) {
		if v.IsNil() {
			return ast.InternedNullTerm, nil
		}
		return project(v.Elem())
	}
}

func (n *Needs) structProjector(t reflect.Type) projector {
	members := n.members(t)
	return func(v reflect.Value) (*ast.Term, error) {
		pairs := make([][2]*ast.Term, 0, len(members))
		for _, m := range members {
			at := v.FieldByIndex(m.index) // no type of the Input embeds a pointer
			if m.omits(at) {
				continue
			}
			value, err := m.project(at)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, [2]*ast.Term{m.key, value})
		}
		return ast.ObjectTerm(pairs...), nil
	}
}

// member is a field with its projector.
type member struct {
	field
	key     *ast.Term
	project projector
}

// members are the fields of a struct that n needs.
func (n *Needs) members(t reflect.Type) []member {
	var list []member
	for _, f := range fieldsOf(t) {
		need := n
		if !n.whole {
			need = n.keys[f.name]
		}
		if need == nil {
			continue
		}
		list = append(list, member{field: f, key: ast.StringTerm(f.name), project: need.memberProjector(f, t.FieldByIndex(f.index).Type)})
	}
	return list
}

// memberProjector makes a nil list or map empty instead of null where the key is always there: this is
// what keeps `some x in input.peers` and `input.namespace.labels.x` from needing a null check.
func (n *Needs) memberProjector(f field, t reflect.Type) projector {
	project := n.projector(t)
	if f.optional() || (t.Kind() != reflect.Map && t.Kind() != reflect.Slice) {
		return project
	}
	empty := ast.InternedEmptyArray
	if t.Kind() == reflect.Map {
		empty = ast.InternedEmptyObject
	}
	return func(v reflect.Value) (*ast.Term, error) {
		if v.IsNil() {
			return empty, nil
		}
		return project(v)
	}
}

func (n *Needs) mapProjector(t reflect.Type) projector {
	if !n.whole {
		return n.keysProjector(t)
	}
	value := n.projector(t.Elem())
	return func(v reflect.Value) (*ast.Term, error) {
		pairs := make([][2]*ast.Term, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			term, err := value(it.Value())
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, [2]*ast.Term{ast.StringTerm(it.Key().String()), term})
		}
		return ast.ObjectTerm(pairs...), nil
	}
}

// keysProjector looks up the keys of a map that n needs.
func (n *Needs) keysProjector(t reflect.Type) projector {
	type entry struct {
		name    reflect.Value
		key     *ast.Term
		project projector
	}
	entries := make([]entry, len(n.names))
	for i, k := range n.names {
		entries[i] = entry{reflect.ValueOf(k.name).Convert(t.Key()), ast.StringTerm(k.name), k.need.projector(t.Elem())}
	}
	return func(v reflect.Value) (*ast.Term, error) {
		pairs := make([][2]*ast.Term, 0, len(entries))
		for _, e := range entries {
			at := v.MapIndex(e.name)
			if !at.IsValid() {
				continue
			}
			value, err := e.project(at)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, [2]*ast.Term{e.key, value})
		}
		return ast.ObjectTerm(pairs...), nil
	}
}

// listProjector converts a list. A key below a list cannot be known before evaluation, so a list that
// is read at all is read whole.
func listProjector(t reflect.Type) projector {
	if t.Elem().Kind() == reflect.Uint8 {
		return projectViaJSON
	}
	project := EverythingNeeded().projector(t.Elem())
	return func(v reflect.Value) (*ast.Term, error) {
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			var err error
			if terms[i], err = project(v.Index(i)); err != nil {
				return nil, err
			}
		}
		return ast.ArrayTerm(terms...), nil
	}
}

// field is one JSON member of a struct.
type field struct {
	name                string
	index               []int
	omitEmpty, omitZero bool
}

// optional reports whether the tag lets the field be absent.
func (f field) optional() bool { return f.omitEmpty || f.omitZero }

// omits reports whether encoding/json leaves the value out: omitempty never leaves out a struct.
func (f field) omits(v reflect.Value) bool {
	return (f.omitEmpty && isEmpty(v)) || (f.omitZero && isZero(v))
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// isZero asks a time itself: a zero time in UTC is not Go's zero value.
func isZero(v reflect.Value) bool {
	if at, ok := reflect.TypeAssert[metav1.Time](v); ok {
		return at.IsZero()
	}
	return v.IsZero()
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, sf := range reflect.VisibleFields(t) {
		if f, ok := fieldOf(t, sf); ok {
			fields = append(fields, f)
		}
	}
	return fields
}

// fieldOf reads one json tag. Inlined structs contribute their own visible fields instead; fields
// of an embedded struct that has a name of its own (metadata) are below that name.
func fieldOf(t reflect.Type, sf reflect.StructField) (field, bool) {
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	if !sf.IsExported() || name == "-" || (sf.Anonymous && name == "") || belowNamed(t, sf.Index) {
		return field{}, false
	}
	if name == "" {
		name = sf.Name
	}
	return field{
		name:      name,
		index:     sf.Index,
		omitEmpty: strings.Contains(options, "omitempty"),
		omitZero:  strings.Contains(options, "omitzero"),
	}, true
}

// belowNamed reports whether the field is promoted through an embedded struct with a JSON name.
func belowNamed(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		outer := t.FieldByIndex(index[:i])
		if name, _, _ := strings.Cut(outer.Tag.Get("json"), ","); name != "" {
			return true
		}
	}
	return false
}
