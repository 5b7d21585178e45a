package limits

import (
	"encoding/json"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Capabilities are the builtins a policy may use: all that are deterministic and that can be bounded, and
// the time. There is no network.
func Capabilities() *ast.Capabilities {
	limitBuiltins()
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(slices.Clone(caps.Builtins), func(b *ast.Builtin) bool {
		return LeftOut(b) != ""
	})
	caps.AllowNet = []string{}
	return caps
}

// CapabilitiesJSON is Capabilities as the file that the opa program takes with --capabilities, with a
// final newline. It is shipped as schema/capabilities.json.
func CapabilitiesJSON() ([]byte, error) {
	caps := Capabilities()
	for i, b := range caps.Builtins {
		caps.Builtins[i] = b.Minimal()
	}
	file, _ := rego.PlainJSON(caps).(map[string]any)
	// OPA leaves the empty list out of its JSON, and reads its absence as every host.
	file["allow_net"] = caps.AllowNet
	raw, err := json.MarshalIndent(file, "", " ")
	return append(raw, '\n'), err
}
