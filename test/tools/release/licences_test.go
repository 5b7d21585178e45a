package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../../.."

// mit is the MIT licence, as a module of ours has it.
func mit(t *testing.T) []byte {
	t.Helper()
	for _, c := range components(t) {
		ids, _ := c.licences()
		if cmp.Equal(ids, []string{"MIT"}) && len(c.texts) == 1 {
			return c.texts[0].body
		}
	}
	t.Fatal("no linked module is under MIT alone")
	return nil
}

// once asks the go command once for all tests.
var once = sync.OnceValues(func() ([]component, error) { return linked(context.Background(), root) })

func components(t *testing.T) []component {
	t.Helper()
	all, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryLinkedModuleMayBeLinked(t *testing.T) {
	all := components(t)
	if err := check(all); err != nil {
		t.Error(err)
	}
	if len(all) < 50 {
		t.Errorf("only %d components were looked at", len(all))
	}
}

func TestLicencesOfAComponent(t *testing.T) {
	apache, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	const gpl = "This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public " +
		"License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version. " +
		"This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied warranty of " +
		"MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more details. " +
		"You should have received a copy of the GNU General Public License along with this program. If not, see https://www.gnu.org/licenses/."
	for name, c := range map[string]struct {
		texts []text
		want  []string
		wrong string
	}{
		"the licences of all texts count once": {
			texts: []text{{name: "LICENSE", body: apache}, {name: "fork/LICENSE", body: mit(t)}, {name: "fork2/LICENSE", body: mit(t)}},
			want:  []string{"Apache-2.0", "MIT"},
		},
		"a notice grants nothing, whatever it says": {
			texts: []text{{name: "LICENSE", body: mit(t)}, {name: "NOTICE", notice: true, body: []byte(gpl)}},
			want:  []string{"MIT"},
		},
		"a licence that is not allowed": {
			texts: []text{{name: "LICENSE", body: mit(t)}, {name: "fork/COPYING", body: []byte(gpl)}},
			want:  []string{"GPL-3.0-or-later", "MIT"},
			wrong: "example.com/m@v1.2.3: fork/COPYING: licence GPL-3.0-or-later is not one of 0BSD, Apache-2.0",
		},
		"words of one's own": {
			texts: []text{{name: "LICENSE", body: []byte("You may use this on Tuesdays.")}},
			wrong: "example.com/m@v1.2.3: LICENSE: only 0 % of it are words of a known licence; read it",
		},
		"more words of one's own than of the licence": {
			texts: []text{{name: "LICENSE", body: append(mit(t), strings.Repeat("But never on Sundays, unless it rains. ", 20)...)}},
			wrong: "of it are words of a known licence; read it",
		},
		"nothing but a notice": {
			texts: []text{{name: "NOTICE", notice: true, body: []byte("by somebody")}},
			wrong: "example.com/m@v1.2.3: no licence file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := component{path: "example.com/m", version: "v1.2.3", texts: c.texts}.licences()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("licences (-want +got):\n%s", diff)
			}
			if err == nil && c.wrong != "" || err != nil && (c.wrong == "" || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("error %v, want %q", err, c.wrong)
			}
		})
	}
}

// A text that was read by a person counts as it was read, and not with one more word.
func TestReviewedTexts(t *testing.T) {
	sqlite := find(t, components(t), "modernc.org/sqlite", "LICENSE-SQLITE")
	ids, err := sqlite.licences()
	if diff := cmp.Diff([]string{"blessing"}, ids); diff != "" || err != nil {
		t.Errorf("%v, licences (-want +got):\n%s", err, diff)
	}
	sqlite.body = append(bytes.Clone(sqlite.body), "But not on Sundays."...)
	if _, err := sqlite.licences(); err == nil {
		t.Error("a changed text counts as reviewed")
	}
}

func find(t *testing.T, all []component, path, name string) text {
	t.Helper()
	for _, c := range all {
		for _, candidate := range c.texts {
			if c.path == path && candidate.name == name {
				return candidate
			}
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return text{}
}

// The licences of parts that modules took from elsewhere, and of the standard library, are found, too.
func TestTextsAreFoundWhereTheyAre(t *testing.T) {
	all := components(t)
	for path, name := range map[string]string{
		"k8s.io/apimachinery":                  "third_party/forked/golang/LICENSE",
		"github.com/prometheus/procfs":         "NOTICE",
		"golang.org/x/crypto":                  "PATENTS",
		standard:                               "LICENSE",
		"github.com/cert-manager/cert-manager": "internal/cron/LICENSE",
	} {
		find(t, all, path, name)
	}
	if version := all[indexOf(all, standard)].version; version != strings.TrimPrefix(runtime.Version(), "go") {
		t.Errorf("the standard library is of %s", version)
	}
}

func indexOf(all []component, path string) int {
	for i, c := range all {
		if c.path == path {
			return i
		}
	}
	return -1
}

func TestNoticesCarryEveryText(t *testing.T) {
	all := components(t)
	var out bytes.Buffer
	if err := writeNotices(&out, all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if !strings.Contains(out.String(), "\n"+c.path+"@"+c.version+": ") {
			t.Errorf("%s is not listed", c.path)
		}
		for _, text := range c.texts {
			body := bytes.TrimSpace(text.body)
			if !strings.Contains(out.String(), "\n"+c.path+" "+text.name+"\n") || bytes.Count(out.Bytes(), append([]byte("\n\n"), body...)) == 0 {
				t.Errorf("%s of %s is not carried", text.name, c.path)
			}
		}
	}
}
