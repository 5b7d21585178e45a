package policies

import (
	"encoding/json"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// appendJSON writes a value of the projection as JSON. OPA's own way goes through Go maps, which
// costs several times as much, and this runs once a decision.
func appendJSON(dst []byte, v ast.Value) []byte {
	switch v := v.(type) {
	case ast.Null:
		return append(dst, "null"...)
	case ast.Boolean:
		return strconv.AppendBool(dst, bool(v))
	case ast.Number:
		return append(dst, string(v)...)
	case ast.String:
		return appendString(dst, string(v))
	case *ast.Array:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, v.Elem(i).Value)
		}
		return append(dst, ']')
	case ast.Object:
		dst = append(dst, '{')
		first := true
		v.Foreach(func(key, value *ast.Term) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendJSON(dst, key.Value)
			dst = append(dst, ':')
			dst = appendJSON(dst, value.Value)
		})
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
