package policies

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/internal/fields"
)

// Needs is the part of the Input that a set of policies reads, as a tree of keys. It decides what
// is gathered and what is converted for OPA.
type Needs struct {
	// whole means that everything below is read.
	whole bool
	keys  map[string]*Needs
	// names are the keys, sorted.
	names []needKey
	// place is where a projection notes where this stands, from 1 on; 0 when it does not.
	place int
	// places is how many there are below a root.
	places int
	// neighbours is set at the root: which of them are read.
	neighbours NeighbourLabels
	// depths is set at the root: how many of the newest times of a list of the history are read, by its
	// name; a list that is not there is read whole.
	depths map[string]int
}

// NeighbourLabels say which neighbours are read: those that share with the pod the value of one of the
// labels, or all of them.
type NeighbourLabels struct {
	// All is true for all of the namespace.
	All bool `json:"all"`
	// Labels are those of which one must be shared.
	Labels []string `json:"labels"`
}

// Share reports whether a pod with the labels a is given one with the labels b as a neighbour.
func (n NeighbourLabels) Share(a, b map[string]string) bool {
	return n.All || slices.ContainsFunc(n.Labels, func(label string) bool { return a[label] != "" && a[label] == b[label] })
}

// HistoryDepth is how many of the newest times of a list of the history are read, at most all.
func (n *Needs) HistoryDepth(scope string, all int) int {
	if depth, ok := n.depths[scope]; ok {
		return min(depth, all)
	}
	return all
}

// Neighbours says which neighbours are read, if any are.
func (n *Needs) Neighbours() NeighbourLabels {
	if n.whole {
		return NeighbourLabels{All: true}
	}
	return n.neighbours
}

type needKey struct {
	name string
	key  *ast.Term
	need *Needs
}

// EverythingNeeded reads the whole Input.
func EverythingNeeded() *Needs { return &Needs{whole: true} }

// NeedsOf builds the tree from refs such as input.pod.metadata.labels.app; other refs are ignored.
func NeedsOf(refs []ast.Ref) *Needs {
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
	root.places = root.number(0)
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
		n.names = append(n.names, needKey{name: key, key: ast.StringTerm(key), need: c})
	}
	slices.SortFunc(n.names, func(a, b needKey) int { return strings.Compare(a.name, b.name) })
}

// number gives the root's keys and every leaf a place, and returns the last one.
func (n *Needs) number(last int) int {
	for _, k := range n.names {
		k.need.place = last + 1
		last = k.need.numberLeaves(k.need.place)
	}
	if n.whole {
		n.place = last + 1
		return n.place
	}
	return last
}

func (n *Needs) numberLeaves(last int) int {
	if n.whole && n.place == 0 {
		last++
		n.place = last
	}
	for _, k := range n.names {
		last = k.need.numberLeaves(last)
	}
	return last
}

// covering is the place of the leaf that holds what a ref reads; the ref is one of those that made the
// tree.
func (n *Needs) covering(ref ast.Ref) int {
	for _, term := range ref[1:] {
		key, ok := term.Value.(ast.String)
		if n.whole || !ok {
			break
		}
		n = n.keys[string(key)]
	}
	return n.place
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
		k.need.walk(appendKey(prefix, k.name), refs)
	}
}

// projection is what a set needs of an Input, as JSON.
type projection struct {
	json []byte
	// places says where in json the numbered parts of the Needs stand; one that is absent is empty.
	places []span
}

// at is the JSON at a place.
func (p *projection) at(place int) []byte {
	at := p.places[place-1]
	return p.json[at.start:at.end]
}

type span struct{ start, end int }

// projector appends a value of one Go type as JSON.
type projector func(*projection, reflect.Value) error

// projector makes the projector of a type, for what n needs of it: the json tags are followed once, as
// encoding/json does, not at every review. encoding/json itself would write all of the Input.
func (n *Needs) projector(t reflect.Type) projector {
	return n.placed(n.plainProjector(t))
}

// placed notes where the value stands.
func (n *Needs) placed(project projector) projector {
	if n.place == 0 {
		return project
	}
	return func(p *projection, v reflect.Value) error {
		start := len(p.json)
		err := project(p, v)
		p.places[n.place-1] = span{start, len(p.json)}
		return err
	}
}

func (n *Needs) plainProjector(t reflect.Type) projector {
	switch {
	case t == timeType:
		return projectTime
	case t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(marshalerType):
		return projectViaJSON
	}
	switch t.Kind() {
	case reflect.Pointer:
		return orNull(n.below().projector(t.Elem()))
	case reflect.Interface:
		return orNull(projectViaJSON)
	case reflect.Struct:
		return n.structProjector(t)
	case reflect.Map:
		return n.mapProjector(t)
	case reflect.Slice, reflect.Array:
		return listProjector(t)
	case reflect.String:
		return func(p *projection, v reflect.Value) error { p.json = appendString(p.json, v.String()); return nil }
	case reflect.Bool:
		return func(p *projection, v reflect.Value) error { p.json = strconv.AppendBool(p.json, v.Bool()); return nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(p *projection, v reflect.Value) error {
			p.json = strconv.AppendInt(p.json, v.Int(), 10)
			return nil
		}
	default:
		return projectViaJSON
	}
}

// below is what is needed of the parts of a value: they are not leaves of their own.
func (n *Needs) below() *Needs {
	if n.whole {
		return EverythingNeeded()
	}
	return n
}

var (
	timeType      = reflect.TypeFor[metav1.Time]()
	microTimeType = reflect.TypeFor[metav1.MicroTime]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

func projectTime(p *projection, v reflect.Value) error {
	at, _ := reflect.TypeAssert[metav1.Time](v)
	if at.IsZero() {
		p.json = append(p.json, "null"...)
		return nil
	}
	p.json = append(at.UTC().AppendFormat(append(p.json, '"'), time.RFC3339), '"')
	return nil
}

// projectViaJSON is the slow and general way, for the few types that need it (quantities,
// int-or-strings).
func projectViaJSON(p *projection, v reflect.Value) error {
	if v.CanAddr() {
		v = v.Addr()
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Errorf("convert %s for the policies: %w", v.Type(), err)
	}
	p.json = append(p.json, raw...)
	return nil
}

// orNull projects what a pointer or an interface holds.
func orNull(project projector) projector {
	return func(p *projection, v reflect.Value) error {
		if v.IsNil() {
			p.json = append(p.json, "null"...)
			return nil
		}
		return project(p, v.Elem())
	}
}

func (n *Needs) structProjector(t reflect.Type) projector {
	members := n.members(t)
	return func(p *projection, v reflect.Value) error {
		p.json = append(p.json, '{')
		separator := ""
		for i := range members {
			m := &members[i]
			at := v.FieldByIndex(m.Index) // no type of the Input embeds a pointer
			if m.Omits(at) {
				continue
			}
			p.json = append(append(p.json, separator...), m.key...)
			separator = ","
			if err := m.project(p, at); err != nil {
				return err
			}
		}
		p.json = append(p.json, '}')
		return nil
	}
}

// member is a field with its projector.
type member struct {
	fields.Field
	key     string // as JSON, with its colon
	project projector
}

// KeyOf is a key as it stands in JSON.
func jsonKey(name string) string { return string(append(appendString(nil, name), ':')) }

// members are the fields of a struct that n needs.
func (n *Needs) members(t reflect.Type) []member {
	var list []member
	for _, f := range fields.Of(t) {
		need := n.below()
		if !n.whole {
			need = n.keys[f.Name]
		}
		if need == nil {
			continue
		}
		list = append(list, member{Field: f, key: jsonKey(f.Name), project: need.memberProjector(f, t.FieldByIndex(f.Index).Type)})
	}
	return list
}

// memberProjector makes a nil list or map empty instead of null where the key is always there: this is
// what keeps `some x in input.peers` and `input.namespace.labels.x` from needing a null check.
func (n *Needs) memberProjector(f fields.Field, t reflect.Type) projector {
	if f.Optional() || (t.Kind() != reflect.Map && t.Kind() != reflect.Slice) {
		return n.projector(t)
	}
	project := n.plainProjector(t)
	empty := "[]"
	if t.Kind() == reflect.Map {
		empty = "{}"
	}
	return n.placed(func(p *projection, v reflect.Value) error {
		if v.IsNil() {
			p.json = append(p.json, empty...)
			return nil
		}
		return project(p, v)
	})
}

// mapProjector sorts the keys, so that equal maps have equal JSON.
func (n *Needs) mapProjector(t reflect.Type) projector {
	if !n.whole {
		return n.keysProjector(t)
	}
	value := n.below().projector(t.Elem())
	return func(p *projection, v reflect.Value) error {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		p.json = append(p.json, '{')
		for i, key := range keys {
			if i > 0 {
				p.json = append(p.json, ',')
			}
			p.json = append(appendString(p.json, key.String()), ':')
			if err := value(p, v.MapIndex(key)); err != nil {
				return err
			}
		}
		p.json = append(p.json, '}')
		return nil
	}
}

// keysProjector looks up the keys of a map that n needs.
func (n *Needs) keysProjector(t reflect.Type) projector {
	type entry struct {
		name    reflect.Value
		key     string
		project projector
	}
	entries := make([]entry, len(n.names))
	for i, k := range n.names {
		entries[i] = entry{reflect.ValueOf(k.name).Convert(t.Key()), jsonKey(k.name), k.need.projector(t.Elem())}
	}
	return func(p *projection, v reflect.Value) error {
		p.json = append(p.json, '{')
		separator := ""
		for i := range entries {
			e := &entries[i]
			at := v.MapIndex(e.name)
			if !at.IsValid() {
				continue
			}
			p.json = append(append(p.json, separator...), e.key...)
			separator = ","
			if err := e.project(p, at); err != nil {
				return err
			}
		}
		p.json = append(p.json, '}')
		return nil
	}
}

// listProjector converts a list. A key below a list cannot be known before evaluation, so a list that
// is read at all is read whole.
func listProjector(t reflect.Type) projector {
	if t.Elem().Kind() == reflect.Uint8 {
		return projectViaJSON
	}
	project := EverythingNeeded().projector(t.Elem())
	return func(p *projection, v reflect.Value) error {
		p.json = append(p.json, '[')
		for i := range v.Len() {
			if i > 0 {
				p.json = append(p.json, ',')
			}
			if err := project(p, v.Index(i)); err != nil {
				return err
			}
		}
		p.json = append(p.json, ']')
		return nil
	}
}
