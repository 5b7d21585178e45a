// Package record is the memory of decisions: the record, and where it is written.
package record

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/evictgate/evictgate/policies"
)

// Version is the version of the record's form; it grows when a field changes its meaning.
const Version = 1

// Record is one decision as it is written: one JSON object a line. It is a superset of OPA's
// decision-log event (decision_id, labels, timestamp, path, input, result, requested_by, metrics,
// revision), so that what reads those reads this.
type Record struct {
	// Version is the version of the record's form. Fields may be added within a version.
	Version int `json:"record_version"`
	// DecisionID is the review's UID, which the API server's audit log holds as the annotation
	// review-uid.
	DecisionID string `json:"decision_id"`
	// Timestamp is the time of the decision, UTC.
	Timestamp time.Time `json:"timestamp"`
	// Labels say which process decided: app, id and version.
	Labels map[string]string `json:"labels"`
	// Path is that of the query, always "eviction".
	Path string `json:"path"`
	// RequestedBy is the user who asked for the eviction.
	RequestedBy string `json:"requested_by"`
	// Revision identifies the policy set that decided.
	Revision string `json:"revision"`
	// Request is who asked for which eviction.
	Request Request `json:"request"`
	// Caller is unknown when the review came from a caller that is not known to be the API server, so that
	// anybody may have made it up; absent when it came from the API server.
	Caller string `json:"caller,omitempty"`
	// Pod is the pod to be evicted, whatever the policies read; null when it is not known.
	Pod *Object `json:"pod"`
	// Owner is the pod's top controller; null for a bare pod.
	Owner *Object `json:"owner"`
	// InputRefs are the paths of the input that the record holds: those that the policies read, or input
	// for all of it.
	InputRefs []string `json:"input_refs"`
	// Result is the decision.
	Result *policies.Decision `json:"result"`
	// Basis is what the decision rests on beside the input; absent when the policies could not be asked.
	Basis *Basis `json:"basis,omitempty"`
	// Metrics are durations in nanoseconds, named as OPA names them.
	Metrics map[string]int64 `json:"metrics"`
	// Erased lists as JSON pointers what is not whole, though InputRefs may cover it: what a mask took out, and what
	// was too long to be kept. A text that was cut ends in …, a list or a map lacks members, and an input or a
	// detail that was left out is null. Absent when all is whole.
	Erased []string `json:"erased,omitempty"`
	// Input is what the policies read of their input, or all of it. It has the form of
	// policies/schema/input.json, without the keys that are not read. It comes last: see AppendJSON.
	Input json.RawMessage `json:"input"`
}

// AppendJSON appends the record as JSON on one line, without the line's end. Its input, which is most of it, is
// JSON of our own making on one line: it is put in as it is, since encoding/json would read all of it again, to
// check it.
func (r Record) AppendJSON(dst []byte) ([]byte, error) {
	input := r.Input
	r.Input = nil
	rest, err := json.Marshal(r)
	if err != nil {
		return dst, err
	}
	if len(input) == 0 {
		input = json.RawMessage("null")
	}
	dst = append(dst, bytes.TrimSuffix(rest, []byte("null}"))...)
	return append(append(dst, input...), '}'), nil
}

// Request is who asked for which eviction.
type Request struct {
	Namespace string `json:"namespace"`
	// Name is the pod's.
	Name string `json:"name"`
	// User is who sent the Eviction, as the API server authenticated it.
	User policies.User `json:"user"`
	// Evictor is the kind of client, by the rules of --evictors.
	Evictor string `json:"evictor"`
	// DryRun says that nothing was to be evicted.
	DryRun bool `json:"dry_run"`
	// Annotations are the Eviction's own.
	Annotations map[string]string `json:"annotations"`
}

// requestOf is what a record has of a request: all but the UID, which is the decision's id, and the options of the
// deletion, which stand in the input where a policy reads them.
func requestOf(r *policies.Request) Request {
	return Request{Namespace: r.Namespace, Name: r.Name, User: r.User, Evictor: r.Evictor, DryRun: r.DryRun, Annotations: r.Annotations}
}

// Object identifies a pod or an owner.
type Object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Node is where a pod runs.
	Node string `json:"node,omitempty"`
}

// Recording says what records hold. The zero value is the default.
type Recording struct {
	// Full records the whole Input instead of what the policies read; it must have been gathered.
	Full bool
	// Masks take values out. Messages, reasons and details of violations are not masked, whatever a policy
	// wrote into them.
	Masks Masks
}

// New describes a decision. The labels say which process decided.
func New(in *policies.Input, reading *policies.Reading, d *policies.Decision, labels map[string]string) (Record, error) {
	return Recording{}.Record(in, reading, d, labels)
}

// needs is what was gathered.
func (o Recording) needs(reading *policies.Reading) *policies.Needs {
	if o.Full {
		return policies.EverythingNeeded()
	}
	return reading.Needs()
}

// Size is about how many bytes of memory a decision holds until its record is made. What it shares with the caches
// of the cluster does not count.
func (o Recording) Size(in *policies.Input, reading *policies.Reading) int {
	r := &in.Request
	n := decisionSize + len(r.User.Username)
	for _, group := range r.User.Groups {
		n += 16 + len(group)
	}
	for key, value := range r.Annotations {
		n += 64 + len(key) + len(value)
	}
	if read, err := reading.JSON(); err == nil {
		n += 2 * len(read) // as JSON, and as what it is made of
	}
	return n + 256*(len(in.Peers)+len(in.Neighbours)) + 1024*(len(in.Budgets)+len(in.Claims))
}

// Record describes a decision. The labels say which process decided.
func (o Recording) Record(in *policies.Input, reading *policies.Reading, d *policies.Decision, labels map[string]string) (Record, error) {
	r := Record{
		Version:     Version,
		DecisionID:  in.Request.UID,
		Timestamp:   in.Now.Time,
		Labels:      labels,
		Path:        "eviction",
		RequestedBy: in.Request.User.Username,
		Revision:    d.Revision,
		Request:     requestOf(&in.Request),
		InputRefs:   reading.Refs(),
		Result:      d,
		Basis:       newBasis(in, reading, o.needs(reading)),
		Metrics:     map[string]int64{"timer_rego_query_eval_ns": d.Duration.Nanoseconds()},
	}
	if in.Pod != nil {
		r.Pod = &Object{Kind: "Pod", Name: in.Pod.Name, UID: string(in.Pod.UID), Node: in.Pod.Spec.NodeName}
	}
	if in.Owner != nil {
		r.Owner = &Object{Kind: in.Owner.Kind, Name: in.Owner.Name, UID: in.Owner.UID}
	}
	var err error
	if o.Full {
		r.InputRefs = []string{"input"}
		r.Input, err = in.JSON()
	} else {
		r.Input, err = reading.JSON()
	}
	if err != nil {
		return r, err
	}
	r.boundInput()
	if err := o.Masks.apply(&r); err != nil {
		return r, err
	}
	return r, r.bound()
}
