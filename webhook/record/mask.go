package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
)

// Mask is a path whose value is taken out of every record. It is written as in input_refs, with [] for
// every member of a list: input.pod.spec.containers[].env, or
// input.pod.metadata.annotations["example.com/secret"]. A path below request means the same value as one
// below input.request: both places are emptied.
type Mask struct {
	path  string
	steps []step // from the Input on
}

// step is a key, or every member of a list.
type step struct {
	key  string
	each bool
}

// kept are the paths that say which decision a record is of: without them it could not be found again.
var kept = []string{
	"input.now", "input.request.uid", "input.request.namespace", "input.request.name", "input.request.evictor", "input.request.dry_run",
	"input.pod.metadata.name", "input.pod.metadata.namespace", "input.pod.metadata.uid", "input.pod.spec.nodeName",
	"input.namespace.name", "input.node.name", "input.owner.kind", "input.owner.name", "input.owner.uid",
}

// ReadMask reads a path and holds it to what there is in a record.
func ReadMask(path string) (Mask, error) {
	text := path
	if rest, ok := strings.CutPrefix(text, "request"); ok {
		text = "input.request" + rest
	}
	steps, err := readSteps(text)
	if err != nil {
		return Mask{}, fmt.Errorf("mask %s: %w", path, err)
	}
	m := Mask{path: path, steps: steps}
	return m, m.validate(text)
}

func readSteps(text string) ([]step, error) {
	rest, ok := strings.CutPrefix(text, "input")
	if !ok {
		return nil, errors.New("expected a path below input or request, such as input.pod.spec.containers[].env")
	}
	var steps []step
	for rest != "" {
		s, length, err := readStep(rest)
		if err != nil {
			return nil, err
		}
		steps, rest = append(steps, s), rest[length:]
	}
	return steps, nil
}

// readStep reads .key, ["key"] or [].
func readStep(text string) (step, int, error) {
	switch {
	case strings.HasPrefix(text, "[]"):
		return step{each: true}, 2, nil
	case strings.HasPrefix(text, `["`):
		quoted, err := strconv.QuotedPrefix(text[1:])
		if err != nil || !strings.HasPrefix(text[1+len(quoted):], "]") {
			return step{}, 0, fmt.Errorf(`%s: expected ["key"] with both quotes and the bracket`, text)
		}
		key, err := strconv.Unquote(quoted)
		return step{key: key}, len(quoted) + 2, err
	case strings.HasPrefix(text, "."):
		key := text[1:]
		if end := strings.IndexAny(key, ".["); end >= 0 {
			key = key[:end]
		}
		if key == "" || strings.ContainsAny(key, `/"'] `) {
			return step{}, 0, fmt.Errorf(`%s: expected a name after the dot; other keys are written ["key"]`, text)
		}
		return step{key: key}, 1 + len(key), nil
	}
	return step{}, 0, fmt.Errorf(`%s: expected .name, ["key"] or []`, text)
}

func (m Mask) validate(text string) error {
	switch {
	case len(m.steps) == 0 || slices.Equal(m.steps, []step{{key: "request"}}):
		return fmt.Errorf("mask %s: it is too wide; name the parts of it", m.path)
	case slices.Contains(kept, text):
		return fmt.Errorf("mask %s: it says which decision the record is of, and cannot be taken out", m.path)
	case m.steps[0].key == "disruption":
		return fmt.Errorf("mask %s: the result says the same, and is not masked", m.path)
	}
	at, schema := "input", policies.InputSchema()
	for _, s := range m.steps {
		below, err := s.descend(schema)
		if err != nil {
			return fmt.Errorf("mask %s: %s %w", m.path, at, err)
		}
		at, schema = at+s.text(), below
	}
	return nil
}

func (s step) text() string {
	if s.each {
		return "[]"
	}
	return "[" + strconv.Quote(s.key) + "]"
}

// descend is the schema of what the step leads to.
func (s step) descend(schema map[string]any) (map[string]any, error) {
	items, isList := schema["items"].(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	values, isMap := schema["additionalProperties"].(map[string]any)
	below, known := properties[s.key].(map[string]any)
	switch {
	case len(schema) == 0: // anything
		return schema, nil
	case s.each && isList:
		return items, nil
	case s.each:
		return nil, errors.New("is not a list")
	case isList:
		return nil, errors.New("is a list; write [] after it")
	case known:
		return below, nil
	case isMap:
		return values, nil
	case properties == nil:
		return nil, fmt.Errorf("holds no keys, so none that is %s", strconv.Quote(s.key))
	}
	return nil, fmt.Errorf("has no field %s", s.key)
}

// Masks are applied one after the other.
type Masks []Mask

// ReadMasks reads all paths, and names all that are wrong.
func ReadMasks(paths []string) (Masks, error) {
	var masks Masks
	var wrong []error
	for _, path := range paths {
		m, err := ReadMask(path)
		masks, wrong = append(masks, m), append(wrong, err)
	}
	return masks, errors.Join(wrong...)
}

// apply takes the values out of a record, and lists them in Erased. What the record shares with the
// decision is not changed.
func (l Masks) apply(r *Record) error {
	if len(l) == 0 || len(r.Input) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(r.Input))
	decoder.UseNumber()
	var input any
	if err := decoder.Decode(&input); err != nil {
		return fmt.Errorf("mask: %w", err)
	}
	var erased []string
	for _, m := range l {
		erase(input, m.steps, "/input", &erased)
	}
	if len(erased) > 0 {
		raw, err := json.Marshal(input)
		if err != nil {
			return fmt.Errorf("mask: %w", err)
		}
		r.Input = raw
	}
	r.Erased = append(r.Erased, erased...)
	for _, m := range l {
		if m.steps[0].key == "request" {
			r.eraseRequest(m.steps[1:])
		}
	}
	return nil
}

// erase deletes what the steps lead to, and adds a JSON pointer for each value that was there.
func erase(value any, steps []step, at string, erased *[]string) {
	s, last := steps[0], len(steps) == 1
	switch v := value.(type) {
	case map[string]any:
		below, ok := v[s.key]
		if !ok || s.each {
			return
		}
		if at += "/" + pointerEscapes.Replace(s.key); last {
			delete(v, s.key)
			*erased = append(*erased, at)
			return
		}
		erase(below, steps[1:], at, erased)
	case []any:
		for i := range v {
			below := at + "/" + strconv.Itoa(i)
			switch {
			case !s.each:
				return
			case last: // the others keep their places
				v[i] = nil
				*erased = append(*erased, below)
			default:
				erase(v[i], steps[1:], below, erased)
			}
		}
	}
}

// pointerEscapes are those of RFC 6901.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// eraseRequest empties the places beside the input that hold what the steps name below request.
func (r *Record) eraseRequest(steps []step) {
	user, annotations := steps[0].key == "user", steps[0].key == "annotations"
	whole := len(steps) == 1
	gone := func(pointer string) { r.Erased = append(r.Erased, pointer) }
	if user && (whole || steps[1].key == "username") {
		if r.Request.User.Username != "" {
			r.Request.User.Username = ""
			gone("/request/user/username")
		}
		if r.RequestedBy != "" {
			r.RequestedBy = ""
			gone("/requested_by")
		}
	}
	if user && (whole || steps[1].key == "groups") && len(r.Request.User.Groups) > 0 {
		r.Request.User.Groups = nil
		gone("/request/user/groups")
	}
	if annotations && whole && len(r.Request.Annotations) > 0 {
		r.Request.Annotations = nil
		gone("/request/annotations")
	}
	if annotations && !whole {
		r.eraseAnnotation(steps[1].key, gone)
	}
	if annotations && (whole || steps[1].key == policies.OverrideAnnotation) {
		r.eraseOverride(gone)
	}
}

func (r *Record) eraseAnnotation(key string, gone func(string)) {
	if _, ok := r.Request.Annotations[key]; ok {
		r.Request.Annotations = maps.Clone(r.Request.Annotations)
		delete(r.Request.Annotations, key)
		gone("/request/annotations/" + pointerEscapes.Replace(key))
	}
}

// eraseOverride takes out the reason of an override, which is the value of an annotation.
func (r *Record) eraseOverride(gone func(string)) {
	if r.Result == nil || r.Result.Override == nil || r.Result.Override.Reason == "" {
		return
	}
	result, override := *r.Result, *r.Result.Override
	override.Reason = ""
	result.Override = &override
	r.Result = &result
	gone("/result/override/reason")
}
