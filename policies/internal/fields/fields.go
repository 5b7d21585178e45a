package fields

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Field is one JSON member of a struct.
type Field struct {
	// Name is its key, and Index where it stands: see reflect.Value.FieldByIndex.
	Name                string
	Index               []int
	omitEmpty, omitZero bool
}

// Optional reports whether the tag lets the field be absent.
func (f Field) Optional() bool { return f.omitEmpty || f.omitZero }

// Omits reports whether encoding/json leaves the value out: omitempty never leaves out a struct.
func (f Field) Omits(v reflect.Value) bool {
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

// Of lists the JSON members of a struct, those of inlined structs in their place.
func Of(t reflect.Type) []Field {
	var fields []Field
	for _, sf := range reflect.VisibleFields(t) {
		if f, ok := fieldOf(t, sf); ok {
			fields = append(fields, f)
		}
	}
	return fields
}

// fieldOf reads one json tag. Inlined structs contribute their own visible fields instead; fields
// of an embedded struct that has a name of its own (metadata) are below that name.
func fieldOf(t reflect.Type, sf reflect.StructField) (Field, bool) {
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	if !sf.IsExported() || name == "-" || (sf.Anonymous && name == "") || belowNamed(t, sf.Index) {
		return Field{}, false
	}
	if name == "" {
		name = sf.Name
	}
	return Field{
		Name:      name,
		Index:     sf.Index,
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
