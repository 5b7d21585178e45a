package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/gate"
)

var update = flag.Bool("update", false, "rewrite the expected answers")

// TestTour holds the answers of `make run` to what was last looked at.
func TestTour(t *testing.T) {
	binary, err := gate.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tour(t.Context(), &out, options{binary: binary, snapshot: "../../../config/samples/cluster.yaml", listen: "127.0.0.1:0", review: "127.0.0.1:0", once: true}); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(out.String(), "127.0.0.1:9443")
	got = strings.Replace(got, "../../../config", "config", 1)
	golden := filepath.Join("testdata", "answers.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the answers differ; look at them, and if they are right run go test ./test/tools/tour -update\ngot:\n%s\nwant:\n%s", got, want)
	}
}
