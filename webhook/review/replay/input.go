package replay

import (
	"cmp"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/policies"
)

// restore makes the Input of the decision, as far as the record holds it.
func (h *held) restore() (*obstacle, error) {
	in := &policies.Input{}
	if raw := h.record.Input; len(raw) > 0 {
		var err error
		if in, err = policies.ParseInput(raw); err != nil {
			return nil, err
		}
	}
	h.in = in
	if why := h.restorePod(); why != nil {
		return why, nil
	}
	if h.record.Owner != nil && in.Owner == nil {
		in.Owner = &policies.Owner{}
	}
	for i := range kept {
		if k := &kept[i]; !h.erased.touch(k.at) {
			k.set(in, h.record)
		}
	}
	h.restoreParts()
	h.restoreOverride()
	return nil, nil
}

// restorePod finds out whether policies were asked about the pod at all.
func (h *held) restorePod() *obstacle {
	r, in := h.record, h.in
	basis := r.Basis
	if h.erased.touch(path("basis")) {
		basis = nil
	}
	asked := len(r.Result.Violations)+len(r.Result.Failures) > 0 || (r.Result.Disruption != nil && !r.Result.Disruption.Allowed)
	switch {
	case r.Pod == nil && !h.erased.touch(path("pod")):
		in.Pod = nil
		return nil
	case r.Pod == nil && in.Pod == nil && !asked && (basis == nil || basis.Phase == ""):
		return &obstacle{Reason: Erased, Ref: "pod"}
	}
	if in.Pod == nil {
		in.Pod = &corev1.Pod{}
	}
	switch {
	case basis != nil:
		in.Pod.Status.Phase = corev1.PodPhase(basis.Phase)
		if basis.Terminating && in.Pod.DeletionTimestamp == nil {
			in.Pod.DeletionTimestamp = &in.Now
		}
	case h.Holds("pod", "status", "phase") && h.Holds("pod", "metadata", "deletionTimestamp"):
	case asked:
		in.Pod.Status.Phase = cmp.Or(in.Pod.Status.Phase, corev1.PodRunning)
	default:
		return &obstacle{Reason: OldRecord, Ref: "basis"}
	}
	return nil
}

// restoreParts adds what the record still holds of the user and of the annotations where a part of them was erased.
func (h *held) restoreParts() {
	r, to := &h.record.Request, &h.in.Request
	if to.User.Username == "" && !h.erased.touch(path("request.user.username")) {
		to.User.Username = r.User.Username
	}
	if to.User.Groups == nil && !h.erased.touch(path("request.user.groups")) {
		to.User.Groups = r.User.Groups
	}
	for key, value := range r.Annotations {
		if _, known := to.Annotations[key]; known || h.erased.touch([]string{"request", "annotations", key}) {
			continue
		}
		h.annotate(key, value)
	}
}

// annotate adds an annotation, and leaves the record's own as they are.
func (h *held) annotate(key, value string) {
	annotations := maps.Clone(h.in.Request.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	h.in.Request.Annotations = annotations
}

// restoreOverride gives the Eviction the annotation that was erased, since the result tells of it.
func (h *held) restoreOverride() {
	o := h.record.Result.Override
	if o == nil || !h.erased.touch([]string{"request", "annotations", policies.OverrideAnnotation}) {
		return
	}
	reason := o.Reason
	if reason == "" && o.Ignored == "" {
		reason = "erased"
	}
	h.annotate(policies.OverrideAnnotation, reason)
}

// trim leaves of the lists what the server would give the set.
func (h *held) trim(needs *policies.Needs) {
	neighbours := h.in.Neighbours
	h.in = needs.Trim(h.in)
	if h.sameNeighbours { // whatever is known of the pod's labels
		h.in.Neighbours = neighbours
	}
}
