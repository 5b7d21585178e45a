package policies

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/fields"
)

// termOf reads the JSON of a projection, which is well formed, as OPA's own value. OPA's way goes through
// Go maps, which costs several times as much.
func termOf(raw []byte) (*ast.Term, error) {
	r := termReader{text: string(raw), keys: inputKeys()}
	term := r.term()
	if r.err == nil && r.at != len(r.text) {
		r.fail("end")
	}
	return term, r.err
}

// termReader reads on at a place in the text. After a failure it stands at the end.
type termReader struct {
	text string
	at   int
	keys map[string]*ast.Term // shared
	err  error
}

func (r *termReader) fail(expected string) {
	if r.err == nil {
		r.err = fmt.Errorf("no %s at byte %d of the projected input", expected, r.at)
	}
	r.at = len(r.text)
}

// peek is the next byte; 0 at the end.
func (r *termReader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// take goes on past a byte, if it is the next one.
func (r *termReader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *termReader) term() *ast.Term {
	switch r.peek() {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		return ast.StringTerm(r.string())
	case 'n':
		return r.word("null", ast.InternedNullTerm)
	case 't':
		return r.word("true", ast.InternedTerm(true))
	case 'f':
		return r.word("false", ast.InternedTerm(false))
	}
	return r.number()
}

func (r *termReader) word(text string, term *ast.Term) *ast.Term {
	if !strings.HasPrefix(r.text[r.at:], text) {
		r.fail(text)
		return nil
	}
	r.at += len(text)
	return term
}

func (r *termReader) number() *ast.Term {
	start := r.at
	for r.at < len(r.text) && strings.IndexByte("+-.0123456789eE", r.text[r.at]) >= 0 {
		r.at++
	}
	text := r.text[start:r.at]
	if text == "" {
		r.fail("value")
		return nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		return ast.InternedTerm(n)
	}
	return ast.NumberTerm(json.Number(text))
}

// string reads a string as it stands in the text, or decodes it when it has escapes.
func (r *termReader) string() string {
	start := r.at
	for r.at++; r.at < len(r.text); r.at++ {
		switch r.text[r.at] {
		case '\\':
			return r.escaped(start)
		case '"':
			r.at++
			return r.text[start+1 : r.at-1]
		}
	}
	r.fail("end of a string")
	return ""
}

func (r *termReader) escaped(start int) (s string) {
	for ; r.at < len(r.text) && r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] == '\\' {
			r.at++
		}
	}
	if r.at++; r.at > len(r.text) || json.Unmarshal([]byte(r.text[start:r.at]), &s) != nil {
		r.fail("end of a string")
	}
	return s
}

func (r *termReader) array() *ast.Term {
	var terms []*ast.Term
	r.at++
	for !r.take(']') && r.err == nil {
		if len(terms) > 0 && !r.take(',') {
			r.fail("comma")
			break
		}
		terms = append(terms, r.term())
	}
	if r.err != nil {
		return nil // it may hold a nil term
	}
	return ast.ArrayTerm(terms...)
}

func (r *termReader) object() *ast.Term {
	pairs := make([][2]*ast.Term, 0, 8)
	r.at++
	for !r.take('}') && r.err == nil {
		if len(pairs) > 0 && !r.take(',') {
			r.fail("comma")
			break
		}
		if r.peek() != '"' {
			r.fail("key")
			break
		}
		key := r.key()
		if !r.take(':') {
			r.fail("colon")
			break
		}
		pairs = append(pairs, [2]*ast.Term{key, r.term()})
	}
	if r.err != nil {
		return nil
	}
	return ast.ObjectTerm(pairs...)
}

func (r *termReader) key() *ast.Term {
	name := r.string()
	if term, ok := r.keys[name]; ok {
		return term
	}
	return ast.StringTerm(name)
}

// inputKeys are the keys of all types in an Input.
var inputKeys = sync.OnceValue(func() map[string]*ast.Term {
	keys := map[string]*ast.Term{}
	addKeys(reflect.TypeFor[Input](), keys, map[reflect.Type]bool{})
	return keys
})

func addKeys(t reflect.Type, keys map[string]*ast.Term, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		addKeys(t.Elem(), keys, seen)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for _, f := range fields.Of(t) {
			keys[f.Name] = ast.StringTerm(f.Name)
			addKeys(t.FieldByIndex(f.Index).Type, keys, seen)
		}
	}
}
