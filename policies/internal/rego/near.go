package rego

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest is the name that a misspelt one most likely means; empty when none is near. Case, underscores
// and dashes do not count, a difference of one letter in three does not hide a name, and a name that
// holds the other one is near, too.
func Nearest(name string, names []string) string {
	if len(name) > maxName || len(names) > maxNames {
		return "" // nobody misspells those, and to compare them takes long
	}
	best, distance := "", max(1, len(name)/3)+1
	for _, candidate := range names {
		if candidate == name || len(candidate) > maxName {
			continue
		}
		if d := apart(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best != "" || len(name) < 3 {
		return best
	}
	i := slices.IndexFunc(names, func(n string) bool { return len(n) > 2 && (within(n, name) || within(name, n)) })
	if i < 0 {
		return ""
	}
	return names[i]
}

// maxName and maxNames bound the search for a name that is near: in bytes, and in names.
const maxName, maxNames = 100, 500

// apart counts the letters in which two names differ.
func apart(a, b string) int {
	a, b = Plain(a), Plain(b)
	d := levenshtein.ComputeDistance(a, b)
	if d == 2 && len(a) == len(b) && swapped(a, b) {
		return 1
	}
	if d >= min(len(a), len(b)) && d > 0 {
		return len(a) + len(b) // nothing is left of a short name
	}
	return d
}

// swapped reports whether two names differ by the order of two neighbouring letters.
func swapped(a, b string) bool {
	for i := 0; i+1 < len(a); i++ {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}

func within(whole, part string) bool { return strings.Contains(Plain(whole), Plain(part)) }

// Plain is a name without what snake_case, camelCase and kebab-case differ in.
func Plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
}

// Instead is what follows "there is no x": the name that is near, else what there is, cut short.
func Instead(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "; there is " + names[0]
	}
	return "; there are " + ShortList(names)
}

// ShortList names up to eight, and counts the rest.
func ShortList(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and others"
}

// Either is a, b or c.
func Either(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
