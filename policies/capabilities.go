package policies

import (
	"encoding/json"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Capabilities are the builtins a policy may use: all that are deterministic, and the time. There is
// no network.
func Capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(slices.Clone(caps.Builtins), func(b *ast.Builtin) bool {
		return b.IsNondeterministic() && b.Name != ast.NowNanos.Name
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
	file, _ := viaPlainJSON(caps).(map[string]any)
	// OPA leaves the empty list out of its JSON, and reads its absence as every host.
	file["allow_net"] = caps.AllowNet
	raw, err := json.MarshalIndent(file, "", " ")
	return append(raw, '\n'), err
}
