package image

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/test/harness/skip"
)

// outcome is what two builds of the same sources have in common.
type outcome struct{ Program, Notices, SBOM, Image string }

// The two directories differ in path and in their files' modes, and have no .git.
func TestTwoBuildsInTwoPlacesAreTheSame(t *testing.T) {
	builder, err := exec.Command("./build.sh", "which").Output()
	must(t, err)
	if len(builder) <= len("\n") {
		skip.Without(t, "a builder of images: install buildah")
	}
	first := build(t, filepath.Join(t.TempDir(), "a"), "022", strings.TrimSpace(string(builder)))
	second := build(t, filepath.Join(t.TempDir(), "another/and/longer"), "077", strings.TrimSpace(string(builder)))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two builds differ (-first +second):\n%s", diff)
	}
	t.Logf("both times %+v", first)
}

// build copies the sources to dir, and makes the image there, stamped as a release would be.
func build(t *testing.T, dir, umask, builder string) outcome {
	t.Helper()
	const name = "evictgate:reproducible"
	script := `umask "$2" && mkdir -p "$1" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --no-preserve=mode -t "$1" &&
		chmod -R u+rwx "$1" && cd "$1" && exec make image IMAGE="$3" VERSION=v9.8.7 REVISION=0123456789abcdef SOURCE_DATE_EPOCH=1700000000`
	cmd := exec.Command("bash", "-c", script, "build", dir, umask, name)
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	t.Cleanup(func() { remove(builder, name) })

	img, err := read(filepath.Join(dir, "bin/image"))
	must(t, err)
	digest, err := img.Digest()
	must(t, err)
	labels := configOf(t, img).Config.Labels
	if labels["org.opencontainers.image.version"] != "v9.8.7" || labels["org.opencontainers.image.created"] != "2023-11-14T22:13:20Z" {
		t.Errorf("labels %v", labels)
	}
	return outcome{
		Program: sum(t, filepath.Join(dir, "bin/evictgate")), Notices: sum(t, filepath.Join(dir, "bin/THIRD-PARTY-NOTICES")),
		SBOM: sum(t, filepath.Join(dir, "bin/evictgate.spdx.json")), Image: digest.String(),
	}
}

// remove takes the image out of the builder's store again, whichever build.sh took.
func remove(builder, name string) {
	_ = exec.Command(builder, "rmi", name).Run()
	if builder == "buildah" {
		_ = exec.Command(builder, "--storage-driver", "vfs", "rmi", name).Run()
	}
}

func sum(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	must(t, err)
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}
