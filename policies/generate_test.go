package policies

import (
	"encoding/json"
	"testing"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/policytest"
)

// TestShippedSchema holds schema/input.json to the Go type it is made from.
func TestShippedSchema(t *testing.T) {
	policytest.Generated(t, "schema/input.json", schemaJSON(t))
}

// TestShippedCapabilities holds schema/capabilities.json to what policies are compiled with.
func TestShippedCapabilities(t *testing.T) {
	want, err := limits.CapabilitiesJSON()
	if err != nil {
		t.Fatal(err)
	}
	policytest.Generated(t, "schema/capabilities.json", want)
}

// schemaJSON is the schema as indented JSON with a final newline.
func schemaJSON(t *testing.T) []byte {
	t.Helper()
	raw, err := json.MarshalIndent(InputSchema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}
