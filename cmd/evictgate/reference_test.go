package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies/output"
)

// TestReference holds docs/commands.md to the commands and flags it is made from.
func TestReference(t *testing.T) {
	const file = "../../docs/commands.md"
	var want bytes.Buffer
	want.WriteString("# Commands\n\nGenerated from the program's own help; `make generate` rewrites it.\n\n" +
		"Exit codes: 0 admitted or nothing found; 1 denied or problems found; 2 could not run. Results go to\n" +
		"stdout, errors, progress and the log to stderr.\n")
	reference(&want, newRoot(output.Printer{Out: io.Discard, Err: io.Discard}))
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the commands say; run make generate", file)
	}
}

func reference(out io.Writer, cmd *cobra.Command) {
	if cmd.Runnable() && !cmd.HasSubCommands() {
		_, _ = fmt.Fprintf(out, "\n## %s\n\n%s\n", cmd.UseLine(), strings.TrimSpace(first(cmd.Long, cmd.Short)))
		if cmd.Example != "" {
			_, _ = fmt.Fprintf(out, "\n```\n%s\n```\n", cmd.Example)
		}
		if cmd.Flags().HasAvailableFlags() {
			_, _ = fmt.Fprint(out, "\n| flag | default | meaning |\n|---|---|---|\n")
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			_, _ = fmt.Fprintf(out, "| `--%s` | %s | %s |\n", f.Name, quoted(f.DefValue), strings.ReplaceAll(f.Usage, "|", `\|`))
		})
	}
	for _, sub := range cmd.Commands() {
		reference(out, sub)
	}
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func quoted(s string) string {
	if s == "" || s == "[]" {
		return ""
	}
	return "`" + s + "`"
}
