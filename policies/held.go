package policies

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Holdings says what is known of an Input that was reduced to what other policies read, as that of a
// record is.
type Holdings interface {
	// Holds reports whether all that stands at a path is known, for example at pod, metadata, labels.
	Holds(path ...string) bool
	// HoldsHistory reports whether as many of the newest times of a list of the history are known.
	HoldsHistory(list string, depth int) bool
	// HoldsNeighbours reports whether all neighbours are known that the labels choose.
	HoldsNeighbours(by NeighbourLabels) bool
}

// Gap is a part of the Input that a policy reads and that is not held.
type Gap struct {
	Policy string `json:"policy"`
	// Ref is a path such as input.node.labels.
	Ref string `json:"ref"`
}

// Gaps lists what Evaluate would read of an Input beyond what is held; without gaps it decides as it would
// over the whole Input. A policy whose match, as far as that is held, leaves the eviction out reads nothing.
func (s *Set) Gaps(in *Input, held Holdings) []Gap {
	if in.Pod == nil || BudgetIgnored(in.Pod) {
		return nil
	}
	var gaps []Gap
	for _, p := range s.bound {
		matches := p.match.decide(in, held)
		if matches == no {
			continue
		}
		var refs []string
		for _, path := range p.reads {
			if !held.Holds(path...) {
				refs = append(refs, refText(path))
			}
		}
		refs = append(refs, s.listGaps(p, held)...)
		if matches == unknown {
			refs = append(refs, p.match.gaps(held)...)
		}
		slices.Sort(refs)
		for _, ref := range slices.Compact(refs) {
			gaps = append(gaps, Gap{Policy: p.Name, Ref: ref})
		}
	}
	return gaps
}

// leafPaths are the paths of the leaves of the tree that refs make, but for the parameters, which are
// the binding's.
func leafPaths(n *Needs) [][]string {
	var paths [][]string
	n.leaves(nil, &paths)
	return slices.DeleteFunc(paths, func(path []string) bool { return len(path) > 0 && path[0] == "parameters" })
}

func (n *Needs) leaves(prefix []string, paths *[][]string) {
	if n.whole {
		*paths = append(*paths, prefix)
	}
	for _, k := range n.names {
		k.need.leaves(append(slices.Clone(prefix), k.name), paths)
	}
}

// listGaps are the lists that are held, but not as far as a policy of the set is given them: they are
// gathered only as far as policies say that they look at them.
func (s *Set) listGaps(p *boundPolicy, held Holdings) []string {
	var refs []string
	for _, list := range HistoryLists() {
		if p.needs.Reads("history", list) && held.Holds("history", list) && !held.HoldsHistory(list, s.needs.HistoryDepth(list, math.MaxInt)) {
			refs = append(refs, refText([]string{"history", list}))
		}
	}
	if p.needs.Reads("neighbours") && held.Holds("neighbours") && !held.HoldsNeighbours(s.needs.Neighbours()) {
		refs = append(refs, refText([]string{"neighbours"}))
	}
	return refs
}

// Trim leaves of an Input's lists what is gathered for these needs: of the history the newest times, of the
// neighbours those that share a label. It shares all else with the Input.
func (n *Needs) Trim(in *Input) *Input {
	trimmed := *in
	if in.History != nil {
		h := *in.History
		for _, list := range HistoryLists() {
			times := h.List(list)
			*times = (*times)[:n.HistoryDepth(list, len(*times))]
		}
		trimmed.History = &h
	}
	if by := n.Neighbours(); !by.All && len(in.Neighbours) > 0 {
		trimmed.Neighbours = slices.DeleteFunc(slices.Clone(in.Neighbours), func(other Neighbour) bool {
			return in.Pod == nil || !by.Share(in.Pod.Labels, other.Labels)
		})
	}
	return &trimmed
}

// truth is that of a statement about which not all is known.
type truth int

const (
	no truth = iota
	unknown
	yes
)

// decide says whether the eviction matches, as far as what is held tells.
func (m matcher) decide(in *Input, held Holdings) truth {
	t := m.scope.decide(in, held)
	for _, e := range m.excludes {
		t = min(t, yes-e.decide(in, held))
	}
	return t
}

// decide says whether the scope covers the eviction: every part of it must.
func (s scope) decide(in *Input, held Holdings) truth {
	t := yes
	for _, part := range s.parts() {
		switch {
		case len(part.gaps(held)) > 0:
			t = min(t, unknown)
		case !part.scope.covers(in):
			t = no
		}
	}
	return t
}

// gaps are the refs by which the eviction would match, and that are not held.
func (m matcher) gaps(held Holdings) []string {
	var refs []string
	for _, s := range append([]scope{m.scope}, m.excludes...) {
		for _, part := range s.parts() {
			refs = append(refs, part.gaps(held)...)
		}
	}
	return refs
}

// scopePart is one of the things that a scope looks at.
type scopePart struct {
	scope scope
	reads [][]string
}

func (p scopePart) gaps(held Holdings) []string {
	var refs []string
	for _, path := range p.reads {
		if !held.Holds(path...) {
			refs = append(refs, refText(path))
		}
	}
	return refs
}

func (s scope) parts() []scopePart {
	var parts []scopePart
	if s.namespace != nil {
		parts = append(parts, scopePart{scope{namespace: s.namespace}, labelPaths(s.namespace, "namespace", "labels")})
	}
	if s.pod != nil {
		parts = append(parts, scopePart{scope{pod: s.pod}, labelPaths(s.pod, "pod", "metadata", "labels")})
	}
	if s.state != nil {
		parts = append(parts, scopePart{scope{state: s.state}, [][]string{{"pod", "metadata", "creationTimestamp"}, {"pod", "status"}}})
	}
	if len(s.evictors) > 0 {
		parts = append(parts, scopePart{scope{evictors: s.evictors}, [][]string{{"request", "evictor"}, {"request", "user"}}})
	}
	return parts
}

// labelPaths are the labels that a selector looks at; all of them when it names none.
func labelPaths(s labels.Selector, at ...string) [][]string {
	requirements, _ := s.Requirements()
	if len(requirements) == 0 {
		return [][]string{at}
	}
	paths := make([][]string, len(requirements))
	for i := range requirements {
		paths[i] = append(slices.Clone(at), requirements[i].Key())
	}
	return paths
}

// refText writes a path as Refs does.
func refText(path []string) string {
	ref := "input"
	for _, key := range path {
		ref = appendKey(ref, key)
	}
	return ref
}

func appendKey(ref, key string) string {
	if rego.IsIdentifier(key) {
		return ref + "." + key
	}
	return ref + "[" + strconv.Quote(key) + "]"
}

// ParseRef reads a path as Refs writes it: that of input.pod.metadata.labels["a/b"] is pod, metadata,
// labels, a/b.
func ParseRef(ref string) ([]string, error) {
	rest, ok := strings.CutPrefix(ref, "input")
	var path []string
	for ok && rest != "" {
		var key string
		if key, rest, ok = cutKey(rest); ok {
			path = append(path, key)
		}
	}
	if !ok {
		return nil, fmt.Errorf("%q is not a path of the input", ref)
	}
	return path, nil
}

// cutKey cuts the first key off, which is .name or ["any text"].
func cutKey(rest string) (key, after string, ok bool) {
	if rest[0] == '.' {
		key, after = rest[1:], ""
		if end := strings.IndexAny(key, ".["); end >= 0 {
			key, after = key[:end], key[end:]
		}
		return key, after, rego.IsIdentifier(key)
	}
	if rest[0] != '[' {
		return "", "", false
	}
	quoted, err := strconv.QuotedPrefix(rest[1:])
	if err != nil || quoted[0] != '"' {
		return "", "", false
	}
	key, err = strconv.Unquote(quoted)
	after, ok = strings.CutPrefix(rest[1+len(quoted):], "]")
	return key, after, ok && err == nil
}
