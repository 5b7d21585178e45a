//go:build linux

package node

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// image is one whose files are unpacked.
type image struct {
	digest string
	dir    string
	config v1.Config
}

// images are what a node can run: names, and the OCI layout directories they stand for.
type images struct {
	dir string

	mu       sync.Mutex
	layouts  map[string]string
	unpacked map[string]*image // by digest
}

// errNotThere: the table has no such image.
var errNotThere = errors.New("image is not present")

// find returns the image of that name as its layout holds it now.
func (i *images) find(name string) (*image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	dir, ok := i.layouts[name]
	if !ok {
		return nil, errNotThere
	}
	img, err := readLayout(dir)
	if err != nil {
		return nil, fmt.Errorf("image %s in %s: %w", name, dir, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	if found := i.unpacked[digest.String()]; found != nil {
		return found, nil
	}
	found := &image{digest: digest.String(), dir: filepath.Join(i.dir, digest.Hex)}
	if err := found.unpack(img); err != nil {
		return nil, fmt.Errorf("unpack image %s: %w", name, err)
	}
	i.unpacked[found.digest] = found
	return found, nil
}

func (i *images) set(name, dir string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.layouts[name] = dir
}

// readLayout reads a layout's only image.
func readLayout(dir string) (v1.Image, error) {
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("it holds %d images, want 1", len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func (i *image) unpack(img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	i.config = config.Config
	files := mutate.Extract(img)
	defer func() { _ = files.Close() }()
	if err := os.MkdirAll(i.dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(i.dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	archive := tar.NewReader(files)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackOne(root, header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

// unpackOne writes one file of an image; nothing gets out of the root.
func unpackOne(root *os.Root, header *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(filepath.Clean("/"+header.Name), "/")
	if name == "" {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	mode := header.FileInfo().Mode().Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, mode); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return root.Link(strings.TrimPrefix(filepath.Clean("/"+header.Linkname), "/"), name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("a file of type %q is not supported", header.Typeflag)
	}
	if err := root.Chown(name, header.Uid, header.Gid); err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

// user is the image's own user and group as numbers; named says it is a name, which only /etc/passwd of the
// image could tell.
func (i *image) user() (uid, gid int64, named bool) {
	user, group, _ := strings.Cut(i.config.User, ":")
	if user == "" {
		return 0, 0, false
	}
	uid, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return 0, 0, true
	}
	if group != "" {
		if gid, err = strconv.ParseInt(group, 10, 64); err != nil {
			return 0, 0, true
		}
	}
	return uid, gid, false
}
