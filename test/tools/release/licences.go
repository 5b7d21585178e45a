package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences, by SPDX identifier, under which a part of evictgate may be. All let the program be
// passed on under Apache-2.0, given the notices. MPL-2.0 asks for the sources of its files, too: the notices
// name each module and version, by which anybody may have them.
var allowed = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib", "blessing",
}

// recognised is the least share of a text, in percent, that must be the words of known licences; of the rest
// nobody knows what it asks for. Texts below it are read by a person, and stand in reviewed.
const recognised = 75

// review is what a person found in a text.
type review struct {
	// licences apply to what is linked; none when the text is about something else.
	licences []string
	// file is whose text it is, for the reader of this table.
	file string
}

// reviewed has the texts that were read by a person, by their SHA-256: a changed text must be read again.
var reviewed = map[string]review{
	"7da62784d8cb6024081a0f923cf3476d95e2cff3d9f6468fce1b6971f9c542d2": {[]string{"MIT"}, "cert-manager's internal/cron: where it is from, then MIT"},
	"f597097efe3d97021f89170746bd3a0fb9a8b6fb26b82043ed68a4e0283bee6c": {[]string{"BSD-2-Clause", "BSD-3-Clause", "MIT"}, "modernc.org/libc: Go, musl with the parts it names, go-netdb, nixpkgs"},
	"4194f8e7119be72babd499db4f6f1f7547e36e8a7bffcb2b9c8df241b8f1576a": {[]string{"BSD-3-Clause", "MIT"}, "modernc.org/sqlite: section 1 is linked; MPL-2.0 and Apache-2.0 are those of its tests"},
	"8438c9c89b849131ead81d5435cb97fcf052df5b0b286dda8a2d4c29e6cb3fd0": {[]string{"blessing"}, "SQLite: public domain"},
	"5ae5bee3072a841376451b48d8cfcec7188e10543926d5870828d36c8a750dc5": {nil, "modernc.org/memory: where a picture in the repository is from"},
	"03883931d6227ab3e3f00e57c7cec198d0ea204570854c36b6236867fe82ae1d": {nil, "cert-manager: the list of its modules; those that are linked are components of their own"},
	"a1d1adec3ba691ef6e377a78bbe9e9e2501f2f4a1723d08857da1ac6564e4fed": {nil, "go-digest: CC-BY-SA-4.0 for its documentation"},
}

// licences returns the SPDX identifiers of what a text grants, sorted; a notice grants nothing. Its error says
// why a person has to read the text.
func (t text) licences() ([]string, error) {
	if t.notice {
		return nil, nil
	}
	sum := sha256.Sum256(t.body)
	if r, ok := reviewed[hex.EncodeToString(sum[:])]; ok {
		return r.licences, nil
	}
	coverage := licensecheck.Scan(t.body)
	if coverage.Percent < recognised {
		return nil, fmt.Errorf("%s: only %.0f %% of it are words of a known licence; read it, and add it to reviewed in test/tools/release/licences.go by its SHA-256 %x",
			t.name, coverage.Percent, sum)
	}
	var ids []string
	for _, match := range coverage.Match {
		ids = append(ids, match.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// licences returns the SPDX identifiers of all of a component's texts, sorted; its error has every reason why
// the component may not be linked as it is.
func (c component) licences() ([]string, error) {
	var ids []string
	var problems []error
	for _, t := range c.texts {
		found, err := t.licences()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s@%s: %w", c.path, c.version, err))
		}
		for _, id := range found {
			if !slices.Contains(allowed, id) {
				problems = append(problems, fmt.Errorf("%s@%s: %s: licence %s is not one of %s", c.path, c.version, t.name, id, strings.Join(allowed, ", ")))
			}
		}
		ids = append(ids, found...)
	}
	if len(ids) == 0 && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("%s@%s: no licence file", c.path, c.version))
	}
	slices.Sort(ids)
	return slices.Compact(ids), errors.Join(problems...)
}

// check says of every component what keeps it from being linked, if anything does.
func check(components []component) error {
	var problems []error
	for _, c := range components {
		_, err := c.licences()
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
