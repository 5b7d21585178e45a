package image

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/evictgate/evictgate/test/harness/skip"
)

// layoutDir is what `make image` writes.
const layoutDir = "../../../bin/image"

// built returns the image that make has built.
func built(t *testing.T) v1.Image {
	t.Helper()
	if _, err := os.Stat(layoutDir); errors.Is(err, fs.ErrNotExist) {
		skip.Without(t, "bin/image (make image)")
	}
	img, err := read(layoutDir)
	must(t, err)
	return img
}

func read(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func configOf(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := img.ConfigFile()
	must(t, err)
	return config
}

func TestTheImageSaysHowItIsRun(t *testing.T) {
	got := configOf(t, built(t))
	labels := got.Config.Labels
	created := got.Created.UTC().Format(time.RFC3339)
	want := v1.Config{
		User:       "65532:65532",
		Entrypoint: []string{"/evictgate"},
		Env:        got.Config.Env,
		Labels: map[string]string{
			"org.opencontainers.image.title":       "evictgate",
			"org.opencontainers.image.description": "Decides every Kubernetes eviction by policy, and says why",
			"org.opencontainers.image.source":      "https://github.com/evictgate/evictgate",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     labels["org.opencontainers.image.version"],
			"org.opencontainers.image.revision":    labels["org.opencontainers.image.revision"],
			"org.opencontainers.image.created":     created,
		},
	}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if labels["org.opencontainers.image.version"] == "" {
		t.Error("the label version is empty")
	}
	for _, variable := range got.Config.Env {
		if !strings.HasPrefix(variable, "PATH=") { // which builders add
			t.Errorf("environment has %s", variable)
		}
	}
	if got.OS != "linux" || got.Created.After(time.Now()) {
		t.Errorf("os %s, created %s", got.OS, created)
	}
}

// file is what an entry of the image's file system has beside its content.
type file struct {
	Name, Mode string
	UID, GID   int
	Modified   time.Time
}

func TestTheImageHoldsTheProgramAndItsPapers(t *testing.T) {
	img := built(t)
	created := configOf(t, img).Created.UTC()
	var got []file
	each(t, img, func(h *tar.Header, _ io.Reader) {
		got = append(got, file{strings.Trim(h.Name, "/"), h.FileInfo().Mode().String(), h.Uid, h.Gid, h.ModTime.UTC()})
	})
	slices.SortFunc(got, func(a, b file) int { return strings.Compare(a.Name, b.Name) })
	want := []file{
		{"evictgate", "-rwxr-xr-x", 0, 0, created},
		{"evictgate.spdx.json", "-rw-r--r--", 0, 0, created},
		{"licenses", "drwxr-xr-x", 0, 0, created},
		{"licenses/LICENSE", "-rw-r--r--", 0, 0, created},
		{"licenses/THIRD-PARTY-NOTICES", "-rw-r--r--", 0, 0, created},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// each calls see with every entry of the image's file system.
func each(t *testing.T, img v1.Image, see func(*tar.Header, io.Reader)) {
	t.Helper()
	must(t, walk(img, func(h *tar.Header, r io.Reader) error {
		see(h, r)
		return nil
	}))
}

func walk(img v1.Image, see func(*tar.Header, io.Reader) error) error {
	stream := mutate.Extract(img)
	defer func() { _ = stream.Close() }()
	for entries := tar.NewReader(stream); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the image: %w", err)
		}
		if err := see(h, entries); err != nil {
			return err
		}
	}
}

// content returns one file of the image.
func content(t *testing.T, img v1.Image, name string) []byte {
	t.Helper()
	var found []byte
	each(t, img, func(h *tar.Header, r io.Reader) {
		if strings.Trim(h.Name, "/") != name {
			return
		}
		var err error
		found, err = io.ReadAll(r)
		must(t, err)
	})
	if found == nil {
		t.Fatalf("the image has no %s", name)
	}
	return found
}

func TestTheProgramNeedsNothingBesideIt(t *testing.T) {
	program := content(t, built(t), "evictgate")
	executable, err := elf.NewFile(bytes.NewReader(program))
	must(t, err)
	libraries, err := executable.ImportedLibraries()
	must(t, err)
	interpreter := slices.ContainsFunc(executable.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if len(libraries) > 0 || interpreter {
		t.Errorf("it is linked to %v, with an interpreter: %v", libraries, interpreter)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	must(t, err)
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-trimpath", Value: "true"}) {
		t.Error("it holds paths of the machine that built it")
	}
	for root := range bundle.Roots() {
		if !bytes.Contains(program, root.Certificate) {
			t.Error("Mozilla's CA roots are not in it")
		}
		break // the others follow the first in one piece
	}
}
