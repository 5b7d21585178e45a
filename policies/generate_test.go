package policies

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite generated files")

// TestShippedSchema holds schema/input.json to the Go type it is made from.
func TestShippedSchema(t *testing.T) {
	want, err := InputSchemaJSON()
	if err != nil {
		t.Fatal(err)
	}
	holdGenerated(t, "schema/input.json", want)
}

// TestShippedCapabilities holds schema/capabilities.json to what policies are compiled with.
func TestShippedCapabilities(t *testing.T) {
	want, err := CapabilitiesJSON()
	if err != nil {
		t.Fatal(err)
	}
	holdGenerated(t, "schema/capabilities.json", want)
}

// holdGenerated compares a file with what it is made from, or writes it with -update.
func holdGenerated(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it is made from; run make generate", file)
	}
}
