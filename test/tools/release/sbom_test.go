package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

const binary = root + "/bin/evictgate"

// written is the bill of materials of bin/evictgate.
func written(t *testing.T) []byte {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no program: make build")
		}
		t.Skip("no program: make build writes bin/evictgate")
	}
	var out bytes.Buffer
	if err := writeSBOM(t.Context(), &out, binary, components(t)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// parsed is it as SPDX's own reader understands it.
func parsed(t *testing.T, raw []byte) *spdx.Document {
	t.Helper()
	d, err := spdxjson.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// goModules is what the go command reads out of the program: each module with its version and its sum.
func goModules(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "dep" {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[3], "h1:"))
			if err != nil {
				t.Fatal(err)
			}
			modules["pkg:golang/"+fields[1]+"@"+strings.ReplaceAll(fields[2], "+", "%2B")] = hex.EncodeToString(raw)
		}
	}
	return modules
}

func TestTheBillHoldsEveryModuleAndNothingElse(t *testing.T) {
	got := map[string]string{}
	var others []string
	for _, p := range parsed(t, written(t)).Packages {
		purl := p.PackageExternalReferences[0].Locator
		if p.PackageName == "evictgate" || p.PackageName == standard {
			others = append(others, p.PackageName)
			continue
		}
		got[purl] = p.PackageChecksums[0].Value
	}
	if diff := cmp.Diff(goModules(t), got); diff != "" {
		t.Errorf("modules (-go version +bill):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"evictgate", standard}, others); diff != "" {
		t.Errorf("the rest (-want +got):\n%s", diff)
	}
}

// Whatever is in the document must be known to SPDX: read and written again by its library, nothing is lost.
func TestTheBillIsSPDX(t *testing.T) {
	raw := written(t)
	d := parsed(t, raw)
	if err := spdxlib.ValidateDocument(d); err != nil {
		t.Error(err)
	}
	var again bytes.Buffer
	if err := spdxjson.Write(d, &again); err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := errors.Join(json.Unmarshal(raw, &before), json.Unmarshal(again.Bytes(), &after)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("SPDX's library loses or adds (-written +again):\n%s", diff)
	}
	described, err := spdxlib.GetDescribedPackageIDs(d)
	if err != nil || len(described) != 1 || string(described[0]) != "evictgate" {
		t.Errorf("it describes %v, %v", described, err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || !strings.HasPrefix(d.DocumentNamespace, "https://") {
		t.Errorf("%s under %s in %s", d.SPDXVersion, d.DataLicense, d.DocumentNamespace)
	}
	if len(d.Relationships) != len(d.Packages) {
		t.Errorf("%d relationships of %d packages: one describes the program, the others say what it needs", len(d.Relationships), len(d.Packages))
	}
}

func TestEveryPackageOfTheBillIsComplete(t *testing.T) {
	id := regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	expression := regexp.MustCompile(`^[A-Za-z0-9.-]+( AND [A-Za-z0-9.-]+)*$`)
	var seen []string
	for _, p := range parsed(t, written(t)).Packages {
		own := string(p.PackageSPDXIdentifier)
		if !id.MatchString(own) || slices.Contains(seen, own) {
			t.Errorf("identifier %q is not one, or not the only one", own)
		}
		seen = append(seen, own)
		if !expression.MatchString(p.PackageLicenseDeclared) || p.PackageVersion == "" || p.PackageDownloadLocation != "NOASSERTION" || p.FilesAnalyzed {
			t.Errorf("%s: %+v", p.PackageName, p)
		}
	}
}

// The bill names the program's file by its digest, and is the same for the same program.
func TestTheBillIsOfThisProgram(t *testing.T) {
	raw := written(t)
	if diff := cmp.Diff(string(raw), string(written(t))); diff != "" {
		t.Errorf("two bills of one program differ:\n%s", diff)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if got := parsed(t, raw).Packages[0].PackageChecksums[0].Value; got != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s, the program's is %x", got, sum)
	}
}

func TestAProgramOfOtherSourcesHasNoBill(t *testing.T) {
	_, err := moduleSum{path: "example.com/elsewhere", version: "v1.0.0"}.describe(components(t))
	const want = "example.com/elsewhere@v1.0.0 is in the program, but not in these sources: build it again"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
