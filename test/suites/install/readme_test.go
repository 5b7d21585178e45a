//go:build linux

package install

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// step is one command of a page with the output that is shown for it.
type step struct {
	command string
	shown   []string
}

// pages tell how to install.
var pages = []string{"README.md", "docs/install.md", "docs/certificates.md"}

// block is what the pages say under <!-- install: name -->: the same wherever it stands.
func block(t *testing.T, name, language string) string {
	t.Helper()
	heading := regexp.MustCompile(`(?s)<!-- install: ` + name + " -->\n```" + language + "\n(.*?)```")
	said := ""
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		check(t, err)
		found := heading.FindSubmatch(text)
		if found == nil {
			continue
		}
		if said != "" && said != string(found[1]) {
			t.Fatalf("%s says under <!-- install: %s -->\n%swhere another of %q says\n%s", page, name, found[1], pages, said)
		}
		said = string(found[1])
	}
	if said == "" {
		t.Fatalf("%q have no %s block under <!-- install: %s -->", pages, language, name)
	}
	return said
}

// steps reads a console block: a command begins with a dollar and goes on in lines that are indented.
func steps(console string) (all []step) {
	for line := range strings.Lines(console) {
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case begins:
			all = append(all, step{command: command})
		case strings.HasPrefix(line, "    "):
			all[len(all)-1].command += line
		default:
			last := &all[len(all)-1]
			last.shown = append(last.shown, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

// follow runs the commands of a block, in a copy of config/, and holds what they print to what the page shows,
// in which … stands for anything. A command that fails is a failure unless the page shows an error. What the page
// says in words to put in the place of something follows the name, in pairs. It returns all that was printed.
func (s *site) follow(t *testing.T, name string, instead ...string) string {
	t.Helper()
	var all strings.Builder
	console := block(t, name, "console")
	for i := 0; i < len(instead); i += 2 {
		if !strings.Contains(console, instead[i]) {
			t.Fatalf("the block %s has no %s", name, instead[i])
		}
	}
	for _, step := range steps(strings.NewReplacer(instead...).Replace(console)) {
		out, err := s.shell(t.Context(), step.command)
		all.WriteString(out)
		if err != nil && !strings.Contains(strings.Join(step.shown, "\n"), "Error from server") {
			t.Fatalf("$ %s%s%v", step.command, out, err)
		}
		for _, line := range step.shown {
			if !matches(line, out) {
				t.Errorf("$ %sprinted\n%swhich lacks the page's\n%s", step.command, out, line)
			}
		}
	}
	return all.String()
}

// matches says whether the text has the line, in which … stands for anything.
func matches(line, text string) bool {
	parts := strings.Split(line, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?m)^" + strings.Join(parts, ".*") + "$").MatchString(text)
}

// shell runs a command as the administrator, in the copy of config/'s parent.
func (s *site) shell(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "KUBECONFIG=" + s.plane.Kubeconfig, "PATH=" + s.bin + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *site) must(t *testing.T, command string) string {
	t.Helper()
	out, err := s.shell(t.Context(), command)
	if err != nil {
		t.Fatalf("$ %s\n%s%v", command, out, err)
	}
	return out
}

func TestStepsReadACommandWithItsOutput(t *testing.T) {
	got := steps("$ echo 'a\n    b'\na …\nc\n$ true\n")
	if len(got) != 2 || got[0].command != "echo 'a\n    b'\n" || len(got[0].shown) != 2 || got[1].command != "true\n" || len(got[1].shown) != 0 {
		t.Errorf("got %q", got)
	}
	for text, want := range map[string]bool{"x\na 12\n": true, "x a 12\n": false, "a": false} {
		if matches("a …", text) != want {
			t.Errorf("%q: want %t", text, want)
		}
	}
}

// TestTheImageIsTheOneThatIsInstalled: make image has run before the tests, and where its image is pushed to, the
// nodes' table of images stands in; so these commands are read, but not run.
func TestTheImageIsTheOneThatIsInstalled(t *testing.T) {
	all := steps(block(t, "image", "console"))
	want := []string{"make image IMAGE=" + image + ":1.0.0\n", "buildah push " + image + ":1.0.0\n"}
	if len(all) != 2 || all[0].command != want[0] || all[1].command != want[1] {
		t.Errorf("the pages build %q, the tests install %q", all, want)
	}
	if names := block(t, "images", "yaml"); !strings.Contains(names, "newName: "+image+", newTag: \"1.0.0\"") {
		t.Errorf("the pages name\n%s", names)
	}
}
