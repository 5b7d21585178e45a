package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// program is the package of the program, and standard the name of the standard library among its components.
const (
	program  = "./cmd/evictgate"
	standard = "stdlib"
)

// component is a module of which at least one package is linked, or the standard library.
type component struct {
	path, version string
	texts         []text
}

// text is one file that says on which terms a component may be used.
type text struct {
	// name is the file's path in the component.
	name string
	// notice is set for texts that must be carried but grant no licence: NOTICE and PATENTS.
	notice bool
	body   []byte
}

// module and goPackage are what is read of go list's answer.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

type goPackage struct {
	Dir      string
	Standard bool
	Module   *module
}

// linked returns the components of the program, sorted by path, with their texts. go list downloads the modules
// that are missing. The licence of a part that a module took from elsewhere is beside that part: so texts are
// looked for in each linked package's directory and in all above it.
func linked(ctx context.Context, root string) ([]component, error) {
	packages, err := goList(ctx, root)
	if err != nil {
		return nil, err
	}
	goroot, version, err := toolchain(ctx, root)
	if err != nil {
		return nil, err
	}
	top := map[module]string{{Path: standard, Version: version}: goroot}
	dirs := map[module]map[string]bool{{Path: standard, Version: version}: {goroot: true}}
	for _, p := range packages {
		m := p.Module
		if p.Standard || m == nil || m.Main {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		key := module{Path: m.Path, Version: m.Version}
		if dirs[key] == nil {
			dirs[key], top[key] = map[string]bool{}, m.Dir
		}
		for dir := p.Dir; len(dir) >= len(m.Dir); dir = filepath.Dir(dir) {
			dirs[key][dir] = true
		}
	}
	var components []component
	for key, set := range dirs {
		texts, err := readTexts(top[key], slices.Sorted(maps.Keys(set)))
		if err != nil {
			return nil, fmt.Errorf("licence files of %s: %w", key.Path, err)
		}
		components = append(components, component{path: key.Path, version: key.Version, texts: texts})
	}
	slices.SortFunc(components, func(a, b component) int { return cmp.Compare(a.path, b.path) })
	return components, nil
}

func goList(ctx context.Context, root string) ([]goPackage, error) {
	out, err := goRun(ctx, root, "list", "-deps", "-json=Dir,Standard,Module", program)
	if err != nil {
		return nil, err
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// toolchain returns where the standard library is, and its version: "1.26.8".
func toolchain(ctx context.Context, root string) (string, string, error) {
	out, err := goRun(ctx, root, "env", "GOROOT", "GOVERSION")
	if err != nil {
		return "", "", err
	}
	goroot, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return goroot, strings.TrimPrefix(version, "go"), nil
}

func goRun(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return out, nil
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|copyright|unlicen[cs]e)([.-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^(notice|patents)(\.(txt|md))?$`)
)

// readTexts reads what the directories hold of licences and notices, by names relative to top.
func readTexts(top string, dirs []string) ([]text, error) {
	var texts []text
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			notice := noticeFile.MatchString(entry.Name())
			source := filepath.Ext(entry.Name()) == ".go"
			if entry.IsDir() || source || !notice && !licenceFile.MatchString(entry.Name()) {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			body, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(top, path)
			if err != nil {
				return nil, err
			}
			texts = append(texts, text{name: filepath.ToSlash(name), notice: notice, body: body})
		}
	}
	return texts, nil
}
