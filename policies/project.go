package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Needs is the part of the Input that a set of policies reads, as a tree of keys. It decides what
// is gathered and what is converted for OPA.
type Needs struct {
	// whole means that everything below is read.
	whole bool
	keys  map[string]*Needs
	// names are the keys sorted, each with its term, made once and shared by all evaluations.
	names []needKey
}

type needKey struct {
	name string
	term *ast.Term
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
		n.names = append(n.names, needKey{name: key, term: ast.StringTerm(key), need: c})
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

// project converts what n needs of a Go value into OPA's representation, following the json tags
// as encoding/json does. There is no JSON in between: on the hot path that would cost more than the
// evaluation itself.
func (n *Needs) project(v reflect.Value) (ast.Value, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return ast.NullValue, nil
		}
		v = v.Elem()
	}
	t := v.Type()
	if value, ok, err := projectSpecial(v, t); ok {
		return value, err
	}
	switch v.Kind() {
	case reflect.Struct:
		return n.projectStruct(v, t)
	case reflect.Map:
		return n.projectMap(v)
	case reflect.Slice, reflect.Array:
		return n.projectList(v)
	case reflect.String:
		return ast.String(v.String()), nil
	case reflect.Bool:
		return ast.InternedTerm(v.Bool()).Value, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return ast.Number(json.Number(strconv.FormatInt(v.Int(), 10))), nil
	default:
		return viaJSON(v)
	}
}

var (
	timeType      = reflect.TypeFor[metav1.Time]()
	microTimeType = reflect.TypeFor[metav1.MicroTime]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

// projectSpecial handles types that write their own JSON.
func projectSpecial(v reflect.Value, t reflect.Type) (ast.Value, bool, error) {
	if t == timeType {
		at := v.Interface().(metav1.Time)
		if at.IsZero() {
			return ast.NullValue, true, nil
		}
		return ast.String(at.UTC().Format("2006-01-02T15:04:05Z07:00")), true, nil
	}
	if v.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(marshalerType) {
		value, err := viaJSON(v)
		return value, true, err
	}
	return nil, false, nil
}

// viaJSON is the slow and general way, for the few types that need it (quantities, int-or-strings).
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

func (n *Needs) projectStruct(v reflect.Value, t reflect.Type) (ast.Value, error) {
	fields := fieldsOf(t)
	var pairs [][2]*ast.Term
	if n.whole {
		pairs = make([][2]*ast.Term, 0, len(fields.list))
		for _, f := range fields.list {
			if err := f.project(v, n, f.term, &pairs); err != nil {
				return nil, err
			}
		}
		return ast.NewObject(pairs...), nil
	}
	pairs = make([][2]*ast.Term, 0, len(n.names))
	for _, k := range n.names {
		f, ok := fields.byName[k.name]
		if !ok {
			continue
		}
		if err := f.project(v, k.need, k.term, &pairs); err != nil {
			return nil, err
		}
	}
	return ast.NewObject(pairs...), nil
}

func (n *Needs) projectMap(v reflect.Value) (ast.Value, error) {
	if n.whole {
		pairs := make([][2]*ast.Term, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			value, err := n.project(it.Value())
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, [2]*ast.Term{ast.StringTerm(it.Key().String()), ast.NewTerm(value)})
		}
		return ast.NewObject(pairs...), nil
	}
	pairs := make([][2]*ast.Term, 0, len(n.names))
	for _, k := range n.names {
		at := v.MapIndex(reflect.ValueOf(k.name).Convert(v.Type().Key()))
		if !at.IsValid() {
			continue
		}
		value, err := k.need.project(at)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]*ast.Term{k.term, ast.NewTerm(value)})
	}
	return ast.NewObject(pairs...), nil
}

// projectList converts a list. A key below a list cannot be known before evaluation, so a list that
// is read at all is read whole.
func (n *Needs) projectList(v reflect.Value) (ast.Value, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return viaJSON(v)
	}
	whole := EverythingNeeded()
	terms := make([]*ast.Term, v.Len())
	for i := range terms {
		value, err := whole.project(v.Index(i))
		if err != nil {
			return nil, err
		}
		terms[i] = ast.NewTerm(value)
	}
	return ast.NewArray(terms...), nil
}

// field is one JSON member of a struct.
type field struct {
	name                string
	term                *ast.Term
	index               []int
	omitEmpty, omitZero bool
}

// optional reports whether the tag lets the field be absent.
func (f field) optional() bool { return f.omitEmpty || f.omitZero }

// omits reports whether encoding/json leaves the value out: omitempty never leaves out a struct.
func (f field) omits(v reflect.Value) bool {
	return (f.omitEmpty && isEmpty(v)) || (f.omitZero && isZero(v))
}

type structFields struct {
	list   []field
	byName map[string]field
}

// project appends the field's pair, unless its tag leaves it out.
func (f field) project(v reflect.Value, n *Needs, key *ast.Term, pairs *[][2]*ast.Term) error {
	at := v.FieldByIndex(f.index) // no type of the Input embeds a pointer
	if f.omits(at) {
		return nil
	}
	value, err := n.projectOurs(at, f.optional())
	if err != nil {
		return err
	}
	*pairs = append(*pairs, [2]*ast.Term{key, ast.NewTerm(value)})
	return nil
}

// projectOurs makes a nil list or map empty instead of null where the key is always there: this is
// what keeps `some x in input.peers` and `input.namespace.labels.x` from needing a null check.
func (n *Needs) projectOurs(v reflect.Value, optional bool) (ast.Value, error) {
	if !optional && (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.IsNil() {
		v = emptyOf(v)
	}
	return n.project(v)
}

func emptyOf(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Map {
		return reflect.MakeMap(v.Type())
	}
	return reflect.MakeSlice(v.Type(), 0, 0)
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
	if v.Type() == timeType {
		at := v.Interface().(metav1.Time)
		return at.IsZero()
	}
	return v.IsZero()
}

// fieldCache maps reflect.Type to structFields; it only ever grows by the types of the Input.
var fieldCache sync.Map

func fieldsOf(t reflect.Type) structFields {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(structFields)
	}
	fields := structFields{byName: map[string]field{}}
	for _, sf := range reflect.VisibleFields(t) {
		f, ok := fieldOf(t, sf)
		if !ok {
			continue
		}
		fields.list = append(fields.list, f)
		fields.byName[f.name] = f
	}
	fieldCache.Store(t, fields)
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
		term:      ast.StringTerm(name),
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
