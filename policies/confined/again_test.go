package confined

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestAgain(t *testing.T) {
	for what, want := range map[string]struct {
		code int
		out  string
	}{
		"ends":    {7, "input"},
		"time":    {2, "could not be compiled in 300ms of CPU time, and 100ms more for each further file\n"},
		"memory":  {2, "needs more than 128 MiB of memory to be compiled\n"},
		"at once": {2, "needs more than 128 MiB of memory to be compiled\n"},
		"panic":   {2, "made the compiler panic: oops\n"},
	} {
		if what == "memory" && raceDetector {
			continue
		}
		t.Run(what, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "again", what)
			var out, said bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input"), &out, &said
			_ = cmd.Run()
			if cmd.ProcessState.ExitCode() != want.code || out.String() != want.out || said.Len() > 0 {
				t.Errorf("exit %d, %q, stderr %q", cmd.ProcessState.ExitCode(), out.String(), said.String())
			}
		})
	}
}
