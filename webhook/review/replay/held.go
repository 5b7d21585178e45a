package replay

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// held is what a record holds of the Input.
type held struct {
	record *record.Record
	in     *policies.Input
	refs   *refs
	erased pointers
	// sameNeighbours: the record holds those that the set would be given.
	sameNeighbours bool
}

var _ policies.Holdings = (*held)(nil)

// Holds is part of policies.Holdings.
func (h *held) Holds(path ...string) bool {
	if keptAt(path, h.erased) {
		return true
	}
	return !h.erased.touch(append([]string{"input"}, path...)) && (h.refs.cover(path) || h.null(path))
}

// null reports whether the record says that there is no object in which the path could be.
func (h *held) null(path []string) bool {
	if len(path) < 2 {
		return false
	}
	if path[0] == "owner" && h.record.Owner == nil {
		return !h.erased.touch([]string{"owner"})
	}
	if !h.refs.touch(path[0]) {
		return false
	}
	switch path[0] {
	case "namespace":
		return h.in.Namespace == nil
	case "node":
		return h.in.Node == nil
	case "cluster":
		return h.in.Cluster == nil
	case "history":
		return h.in.History == nil
	}
	return false
}

// HoldsHistory is part of policies.Holdings. A list that is shorter than it might be is whole.
func (h *held) HoldsHistory(list string, depth int) bool {
	if h.in.History == nil {
		return true // Holds tells whether that is known
	}
	if h.record.Basis == nil {
		return false
	}
	recorded, bounded := h.record.Basis.HistoryDepth[list]
	return !bounded || depth <= recorded || len(*h.in.History.List(list)) < recorded
}

// HoldsNeighbours is part of policies.Holdings.
func (h *held) HoldsNeighbours(by policies.NeighbourLabels) bool {
	if h.record.Basis == nil || h.record.Basis.Neighbours == nil {
		return false
	}
	recorded := h.record.Basis.Neighbours
	if by.All {
		return recorded.All
	}
	for _, label := range by.Labels {
		if !recorded.All && !slices.Contains(recorded.Labels, label) {
			return false
		}
		// The server would give fewer: which, the pod's label tells.
		if !h.sameNeighbours && !h.Holds("pod", "metadata", "labels", label) {
			return false
		}
	}
	return true
}

// keptPart is a part of the Input that every record holds outside of its input.
type keptPart struct {
	// path is in the Input, at in the record.
	path, at []string
	set      func(*policies.Input, *record.Record)
}

// kept are all of them.
var kept = []keptPart{
	{path("now"), path("timestamp"), func(in *policies.Input, r *record.Record) { in.Now.Time = r.Timestamp }},
	{path("request.uid"), path("decision_id"), func(in *policies.Input, r *record.Record) { in.Request.UID = r.DecisionID }},
	{path("request.namespace"), path("request.namespace"), func(in *policies.Input, r *record.Record) { in.Request.Namespace = r.Request.Namespace }},
	{path("request.name"), path("request.name"), func(in *policies.Input, r *record.Record) { in.Request.Name = r.Request.Name }},
	{path("request.user"), path("request.user"), func(in *policies.Input, r *record.Record) { in.Request.User = r.Request.User }},
	{path("request.evictor"), path("request.evictor"), func(in *policies.Input, r *record.Record) { in.Request.Evictor = r.Request.Evictor }},
	{path("request.dry_run"), path("request.dry_run"), func(in *policies.Input, r *record.Record) { in.Request.DryRun = r.Request.DryRun }},
	{path("request.annotations"), path("request.annotations"), func(in *policies.Input, r *record.Record) { in.Request.Annotations = r.Request.Annotations }},
	{path("disruption"), path("result.disruption"), func(in *policies.Input, r *record.Record) { in.Disruption = r.Result.Disruption }},
	{path("pod.metadata.namespace"), path("request.namespace"), onPod(func(p *corev1.Pod, r *record.Record) { p.Namespace = r.Request.Namespace })},
	{path("pod.metadata.name"), path("pod.name"), onPod(func(p *corev1.Pod, r *record.Record) { p.Name = r.Pod.Name })},
	{path("pod.metadata.uid"), path("pod.uid"), onPod(func(p *corev1.Pod, r *record.Record) { p.UID = types.UID(r.Pod.UID) })},
	{path("pod.spec.nodeName"), path("pod.node"), onPod(func(p *corev1.Pod, r *record.Record) { p.Spec.NodeName = r.Pod.Node })},
	{path("owner.kind"), path("owner.kind"), onOwner(func(o *policies.Owner, r *record.Record) { o.Kind = r.Owner.Kind })},
	{path("owner.name"), path("owner.name"), onOwner(func(o *policies.Owner, r *record.Record) { o.Name = r.Owner.Name })},
	{path("owner.uid"), path("owner.uid"), onOwner(func(o *policies.Owner, r *record.Record) { o.UID = r.Owner.UID })},
}

func path(dotted string) []string { return strings.Split(dotted, ".") }

// onPod sets a part of the pod, if there is one.
func onPod(set func(*corev1.Pod, *record.Record)) func(*policies.Input, *record.Record) {
	return func(in *policies.Input, r *record.Record) {
		if in.Pod != nil && r.Pod != nil {
			set(in.Pod, r)
		}
	}
}

func onOwner(set func(*policies.Owner, *record.Record)) func(*policies.Input, *record.Record) {
	return func(in *policies.Input, r *record.Record) {
		if in.Owner != nil && r.Owner != nil {
			set(in.Owner, r)
		}
	}
}

// keptAt reports whether a path is among what is kept, and was not erased there.
func keptAt(path []string, erased pointers) bool {
	for i := range kept {
		if k := &kept[i]; len(path) >= len(k.path) && slices.Equal(path[:len(k.path)], k.path) {
			return !erased.touch(append(slices.Clone(k.at), path[len(k.path):]...))
		}
	}
	return false
}

// pointers are JSON pointers into a record, taken apart.
type pointers [][]string

func parsePointers(list []string) pointers {
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	var p pointers
	for _, text := range list {
		keys := strings.Split(strings.TrimPrefix(text, "/"), "/")
		if text == "" || text == "/" {
			keys = nil
		}
		for i := range keys {
			keys[i] = unescape.Replace(keys[i])
		}
		p = append(p, keys)
	}
	return p
}

// touch reports whether a pointer leads to the path, above it or below it; * in the path is any key.
func (p pointers) touch(path []string) bool {
	return slices.ContainsFunc(p, func(keys []string) bool {
		n := min(len(keys), len(path))
		return slices.EqualFunc(keys[:n], path[:n], func(key, at string) bool { return at == "*" || key == at })
	})
}

// refs are paths of the Input as a tree.
type refs struct {
	whole bool
	below map[string]*refs
}

func (r *refs) add(path []string) {
	for _, key := range path {
		if r.below == nil {
			r.below = map[string]*refs{}
		}
		next, ok := r.below[key]
		if !ok {
			next = &refs{}
			r.below[key] = next
		}
		r = next
	}
	r.whole = true
}

// cover reports whether the path is one of the refs, or below one.
func (r *refs) cover(path []string) bool {
	for _, key := range path {
		if r.whole {
			return true
		}
		next, ok := r.below[key]
		if !ok {
			return false
		}
		r = next
	}
	return r.whole
}

// touch reports whether a ref leads to the key or below it.
func (r *refs) touch(key string) bool { return r.whole || r.below[key] != nil }
