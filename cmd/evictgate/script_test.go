package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
)

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

func TestMain(m *testing.M) {
	confined.Main()
	testscript.Main(m, map[string]func(){
		"evictgate": func() {
			os.Exit(start(os.Args[1:], output.Printer{Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs every command as a user does.
func TestScripts(t *testing.T) {
	sample, err := filepath.Abs("../../config/samples/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Abs("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "../../test/suites/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SAMPLE", sample)
			e.Setenv("RECORDS", records)
			return nil
		},
	})
}
