package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// document is an SPDX 2.3 document, as far as it is used here: https://spdx.github.io/spdx-spec/v2.3/
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	Comment           string         `json:"comment"`
	CreationInfo      creationInfo   `json:"creationInfo"`
	Packages          []spdxPackage  `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name             string        `json:"name"`
	SPDXID           string        `json:"SPDXID"`
	VersionInfo      string        `json:"versionInfo"`
	Purpose          string        `json:"primaryPackagePurpose"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	Checksums        []checksum    `json:"checksums,omitempty"`
	SourceInfo       string        `json:"sourceInfo,omitempty"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	CopyrightText    string        `json:"copyrightText"`
	ExternalRefs     []externalRef `json:"externalRefs"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// stamp is what a program says of itself: `evictgate version -o json`.
type stamp struct {
	Version, Revision, Date string
}

// writeSBOM prints the bill of materials of a built program: what the Go toolchain wrote into it, and the
// licences of that. It is the same for the same program.
func writeSBOM(ctx context.Context, w io.Writer, path string, components []component) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, "version", "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", path, err)
	}
	var built stamp
	if err := json.Unmarshal(out, &built); err != nil {
		return fmt.Errorf("%s version: %w", path, err)
	}
	d, err := newDocument(info, sha256.Sum256(content), built, components)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(d)
}

// newDocument fails when a component of the program has no known licence: it was built from other sources than
// those of components.
func newDocument(info *buildinfo.BuildInfo, sum [sha256.Size]byte, built stamp, components []component) (*document, error) {
	digest := hex.EncodeToString(sum[:])
	if built.Date == "" {
		built.Date = "1970-01-01T00:00:00Z"
	}
	d := &document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT",
		Name:              "evictgate-" + built.Version,
		DocumentNamespace: "https://evictgate.dev/spdx/evictgate-" + url.PathEscape(built.Version) + "-" + digest,
		Comment: "Made from the build information in the program. A module's SHA256 is that of the h1 sum in go.sum, " +
			"which is of the module's files (golang.org/x/mod/sumdb/dirhash), not of an archive; created is the commit's time.",
		CreationInfo: creationInfo{Created: built.Date, Creators: []string{"Organization: Evictgate", "Tool: evictgate-release"}},
	}
	d.add(spdxPackage{
		Name: "evictgate", VersionInfo: built.Version, Purpose: "APPLICATION", SourceInfo: sourceOf(built),
		Checksums: []checksum{{"SHA256", digest}}, LicenseDeclared: "Apache-2.0",
	}, "pkg:golang/"+info.Main.Path+"@"+url.QueryEscape(built.Version))
	d.relate("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-evictgate")

	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	modules := []moduleSum{{path: standard, version: goVersion}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		modules = append(modules, moduleSum{m.Path, m.Version, m.Sum})
	}
	for _, m := range modules {
		p, err := m.describe(components)
		if err != nil {
			return nil, err
		}
		id := d.add(p, "pkg:golang/"+m.path+"@"+url.QueryEscape(m.version))
		d.relate("SPDXRef-evictgate", "DEPENDS_ON", id)
	}
	return d, nil
}

func sourceOf(built stamp) string {
	if built.Revision == "" {
		return ""
	}
	return "commit " + built.Revision
}

// moduleSum is a module as the program knows it; sum is empty for the standard library.
type moduleSum struct{ path, version, sum string }

func (m moduleSum) describe(components []component) (spdxPackage, error) {
	i := slices.IndexFunc(components, func(c component) bool { return c.path == m.path && c.version == m.version })
	if i < 0 {
		return spdxPackage{}, fmt.Errorf("%s@%s is in the program, but not in these sources: build it again", m.path, m.version)
	}
	ids, err := components[i].licences()
	if err != nil {
		return spdxPackage{}, err
	}
	p := spdxPackage{Name: m.path, VersionInfo: m.version, Purpose: "LIBRARY", LicenseDeclared: strings.Join(ids, " AND ")}
	if m.sum == "" {
		return p, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.sum, "h1:"))
	if err != nil || len(raw) != sha256.Size {
		return spdxPackage{}, fmt.Errorf("%s@%s: sum %q is not of the kind h1", m.path, m.version, m.sum)
	}
	p.SourceInfo, p.Checksums = m.sum, []checksum{{"SHA256", hex.EncodeToString(raw)}}
	return p, nil
}

// notInID are the characters that an SPDX identifier may not have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// add appends a package and returns its identifier.
func (d *document) add(p spdxPackage, purl string) string {
	p.SPDXID = "SPDXRef-" + notInID.ReplaceAllString(p.Name, "-")
	p.DownloadLocation, p.CopyrightText, p.LicenseConcluded = "NOASSERTION", "NOASSERTION", p.LicenseDeclared
	p.ExternalRefs = []externalRef{{"PACKAGE-MANAGER", "purl", purl}}
	d.Packages = append(d.Packages, p)
	return p.SPDXID
}

func (d *document) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, relationship{element, kind, related})
}
