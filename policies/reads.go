package policies

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
)

// baseRefs lists what a body reads, through all rules. OPA panics where something is looked up in a
// literal string or number (`some x in "text"`): a policy that is applied must not end the process.
func baseRefs(compiler *ast.Compiler, body ast.Body) (refs []ast.Ref, err error) {
	defer func() {
		if recover() != nil {
			refs, err = nil, errors.New("it looks something up in a value that has no members, as `x in \"text\"` does")
		}
	}()
	return dependencies.Base(compiler, body)
}
