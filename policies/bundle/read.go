package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// filesOf is what a verified bundle holds for us; raw are its bytes.
func filesOf(b *opabundle.Bundle, raw []byte, name string) ([]policies.File, error) {
	if len(b.Data) > 0 {
		return nil, fmt.Errorf("data.json or data.yaml holds data (%s), which no policy here can read: give parameters in an EvictionPolicy; and mind that `opa build` without -b turns every yaml file into data",
			strings.Join(slices.Sorted(maps.Keys(b.Data)), ", "))
	}
	files, err := sources(raw, name)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no policy in the bundle: expected *.rego or *.yaml with an EvictionPolicy")
	}
	return files, nil
}

// sources reads the policy sources out of a tarball. OPA keeps no yaml but its data, so they are read
// again, by the loader whose files OPA verified: each of them, whatever its name, is held to the
// signature. The exception is data.yaml, of which the signature covers the value of the first document
// and not the bytes: it is never a source.
func sources(raw []byte, name string) ([]policies.File, error) {
	loader := opabundle.NewTarballLoaderWithBaseURL(bytes.NewReader(raw), name)
	var files []policies.File
	for {
		d, err := loader.NextFile()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the bundle: %w", err)
		}
		file := strings.TrimPrefix(path.Clean("/"+d.Path()), "/")
		if !source.IsSource(file) || opabundle.IsYAMLDataFile(file) {
			continue
		}
		var data bytes.Buffer
		if _, err := d.Read(&data, math.MaxInt64); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s in the bundle: %w", file, err)
		}
		files = append(files, policies.File{Name: name + "!/" + file, Data: data.Bytes()})
	}
}

// prepareCache makes the directory and returns the file in it. Where an OCI bundle is unpacked must be
// writable in any case.
func prepareCache(l location, dir string) (string, error) {
	if dir == "" && !l.oci {
		return "", nil
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make the cache: %w", err)
		}
	}
	probe, err := os.MkdirTemp(dir, "probe-")
	if err == nil {
		err = os.Remove(probe)
	}
	switch {
	case err != nil && dir == "":
		return "", fmt.Errorf("an OCI bundle is unpacked on disk: %w; give a cache directory or a writable %s", err, os.TempDir())
	case err != nil:
		return "", fmt.Errorf("write to the cache: %w", err)
	case dir == "":
		return "", nil
	}
	sum := sha256.Sum256([]byte(l.name))
	return filepath.Join(dir, hex.EncodeToString(sum[:8])+".tar.gz"), nil
}

// useCached starts with the bundle of an earlier run, if it still verifies.
func (s *Source) useCached() {
	if s.cache == "" {
		return
	}
	raw, err := os.ReadFile(s.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var b opabundle.Bundle
	if err == nil {
		b, err = s.verified(raw)
	}
	if err == nil {
		err = s.take(&b, raw)
	}
	if err != nil {
		s.log.Warn("the cached bundle is not used", "bundle", s.name, "file", s.cache, "error", err.Error())
	}
}

// verified reads a bundle as OPA's downloader does.
func (s *Source) verified(raw []byte) (opabundle.Bundle, error) {
	if err := unpacks(raw, maxBytes); err != nil {
		return opabundle.Bundle{}, err
	}
	loader := opabundle.NewTarballLoaderWithBaseURL(bytes.NewReader(raw), s.name).WithSizeLimitBytes(maxBytes)
	return opabundle.NewCustomReader(loader).WithBundleVerificationConfig(s.trust).
		WithSizeLimitBytes(maxBytes).WithBundlePersistence(true).Read()
}

// writeFile replaces a file as a whole.
func writeFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
