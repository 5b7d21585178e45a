package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// In order: the first case builds govulncheck, which the last one could not.
func TestMakeVuln(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	database := func(name string) string { return "VULN_DB=file://" + filepath.Join(here, "testdata", name) }
	for _, c := range []struct {
		name string
		env  []string
		code int
		says string
	}{
		{"a vulnerability in what is called fails", []string{database("called")}, 1, "Vulnerability #1: GO-0000-0001"},
		{"one in what is only linked is told", []string{database("linked")}, 0, "This scan also found 1 vulnerability in packages you import"},
		{"a database that cannot be reached is told", []string{"VULN_DB=http://127.0.0.1:1"}, 0, "vuln: the vulnerability database http://127.0.0.1:1 cannot be read from here, so nothing was checked"},
		{"and fails where nobody might read it", []string{"VULN_DB=http://127.0.0.1:1", "CI=true"}, 2, "so nothing was checked"},
		{"the same for Go's own, behind a proxy that is away", []string{"HTTPS_PROXY=http://127.0.0.1:1"}, 0, "vuln: the vulnerability database https://vuln.go.dev cannot be read from here, so nothing was checked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "../vuln.sh")
			cmd.Env = append(os.Environ(), "CI=", "VULN_DB=", "PACKAGES=./policies/v1alpha1")
			cmd.Env = append(cmd.Env, c.env...)
			out, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, c.code, c.says, out)
			}
		})
	}
}
