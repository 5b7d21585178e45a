// Package audit is the memory of decisions: the record, and where it is written.
package audit

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/evictgate/evictgate/policies"
)

// RecordVersion is the version of the record's form; it grows when a field changes its meaning.
const RecordVersion = 1

// Record is one decision as it is written: one JSON object a line. It is a superset of OPA's
// decision-log event (decision_id, labels, timestamp, path, input, result, requested_by, metrics,
// revision), so that what reads those reads this.
type Record struct {
	RecordVersion int `json:"record_version"`
	// DecisionID is the review's UID, which the API server's audit log holds as the annotation
	// review-uid.
	DecisionID string            `json:"decision_id"`
	Timestamp  time.Time         `json:"timestamp"`
	Labels     map[string]string `json:"labels"`
	// Path is that of the query, always "eviction".
	Path        string `json:"path"`
	RequestedBy string `json:"requested_by"`
	Revision    string `json:"revision"`
	// Request, Pod and Owner say what was to be evicted, whatever the policies read. Pod and Owner
	// are null when they are not known.
	Request Request `json:"request"`
	Pod     *Object `json:"pod"`
	Owner   *Object `json:"owner"`
	// Input holds what the policies read, and InputRefs which paths that is.
	InputRefs []string           `json:"input_refs"`
	Result    *policies.Decision `json:"result"`
	// Metrics are durations in nanoseconds, named as OPA names them.
	Metrics map[string]int64 `json:"metrics"`
	Input   json.RawMessage  `json:"input"` // the last one: see appendLine
}

// appendLine appends a record as a line of JSON. Its input, which is most of it, is JSON of our own making on one
// line: it is put in as it is, since encoding/json would read all of it again, to check it.
func appendLine(dst []byte, r Record) ([]byte, error) {
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
	return append(append(dst, input...), "}\n"...), nil
}

// Request is who asked for which eviction.
type Request struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	User        policies.User     `json:"user"`
	Evictor     string            `json:"evictor"`
	DryRun      bool              `json:"dry_run"`
	Annotations map[string]string `json:"annotations"`
}

// Object identifies a pod or an owner.
type Object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	UID  string `json:"uid"`
	Node string `json:"node,omitempty"`
}

// NewRecord describes a decision. The labels say which process decided.
func NewRecord(in *policies.Input, reading *policies.Reading, d *policies.Decision, labels map[string]string) (Record, error) {
	input, err := reading.JSON()
	r := Record{
		RecordVersion: RecordVersion,
		DecisionID:    in.Request.UID,
		Timestamp:     in.Now.Time,
		Labels:        labels,
		Path:          "eviction",
		RequestedBy:   in.Request.User.Username,
		Revision:      d.Revision,
		Request: Request{
			Namespace: in.Request.Namespace, Name: in.Request.Name, User: in.Request.User,
			Evictor: in.Request.Evictor, DryRun: in.Request.DryRun, Annotations: in.Request.Annotations,
		},
		Input:     input,
		InputRefs: reading.Refs(),
		Result:    d,
		Metrics:   map[string]int64{"timer_rego_query_eval_ns": d.Duration.Nanoseconds()},
	}
	if in.Pod != nil {
		r.Pod = &Object{Kind: "Pod", Name: in.Pod.Name, UID: string(in.Pod.UID), Node: in.Pod.Spec.NodeName}
	}
	if in.Owner != nil {
		r.Owner = &Object{Kind: in.Owner.Kind, Name: in.Owner.Name, UID: in.Owner.UID}
	}
	return r, err
}
