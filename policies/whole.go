package policies

import (
	"reflect"
	"sync"
)

// projectWhole is made once: it follows the types of Kubernetes' objects.
var projectWhole = sync.OnceValue(func() projector { return EverythingNeeded().projector(reflect.TypeFor[Input]()) })

// JSON is the whole Input as a policy that reads all of it is given it, but for the parameters, which are
// those of its binding.
func (in *Input) JSON() ([]byte, error) {
	whole := *in
	whole.Parameters = nil
	p := projection{json: make([]byte, 0, 8192)}
	err := projectWhole()(&p, reflect.ValueOf(&whole).Elem())
	return p.json, err
}
