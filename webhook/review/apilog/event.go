// Package apilog reads what kube-apiserver says about evictions: its audit log (audit.k8s.io/v1, as files or
// as its audit webhook sends it), and on the same kind of line our own decision records. With both it can be
// proved that every eviction was decided, and that every decision was answered.
package apilog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// Options say how events are read.
type Options struct {
	// WebhookName is ours in the webhook configuration; hooks.Evictions by default.
	WebhookName string
	// Namespaces are those that the webhook is asked about, all when it is empty, and Exempt those that it
	// is not. What is elsewhere is left out and counted: nobody expects a decision on it.
	Namespaces, Exempt []string
}

// Parser reads single events. Its methods are safe for concurrent use.
type Parser struct{ o Options }

// NewParser makes one.
func NewParser(o Options) *Parser {
	if o.WebhookName == "" {
		o.WebhookName = hooks.Evictions
	}
	return &Parser{o: o}
}

// Kind says what a line is.
type Kind int

const (
	// Other is what does not concern us: other resources, verbs and stages, and other text.
	Other Kind = iota
	// Answered is the API server's answer to an eviction, or to the deletion of a pod.
	Answered
	// Decision is a record of ours; record.Parse reads it.
	Decision
	// List is an EventList; Events reads it.
	List
	// Collection is a deletion of many pods at once, which the log does not name.
	Collection
	// OutOfScope is what the webhook is not asked about by its configuration; see Options.
	OutOfScope
)

// event is the part of an audit event that counts, with the fields of the other things that a line may be.
type event struct {
	Kind             string            `json:"kind"`
	APIVersion       string            `json:"apiVersion"`
	RecordVersion    int               `json:"record_version"`
	Stage            string            `json:"stage"`
	AuditID          string            `json:"auditID"`
	RequestURI       string            `json:"requestURI"`
	Verb             string            `json:"verb"`
	User             user              `json:"user"`
	ImpersonatedUser *user             `json:"impersonatedUser"`
	UserAgent        string            `json:"userAgent"`
	ObjectRef        objectRef         `json:"objectRef"`
	ResponseStatus   status            `json:"responseStatus"`
	RequestObject    json.RawMessage   `json:"requestObject"`
	ResponseObject   json.RawMessage   `json:"responseObject"`
	StageTimestamp   time.Time         `json:"stageTimestamp"`
	Annotations      map[string]string `json:"annotations"`
}

type user struct {
	Username string `json:"username"`
}

type objectRef struct {
	APIGroup    string `json:"apiGroup"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
}

type status struct {
	Code    int32  `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Kind   string  `json:"kind"`
		Causes []cause `json:"causes"`
	} `json:"details"`
}

type cause struct {
	Reason string `json:"reason"`
}

// deleteOptions are those of an eviction or a deletion.
type deleteOptions struct {
	DryRun        []string `json:"dryRun"`
	Preconditions struct {
		UID string `json:"uid"`
	} `json:"preconditions"`
}

// marks are looked for before a line is parsed: most lines of an audit log do not concern us, and finding
// that out has to be cheap. A line that concerns us holds pods and one of verbs, or recordMark.
var (
	recordMark = []byte(`"record_version"`)
	pods       = []byte(`"pods"`)
	verbs      = [][]byte{[]byte(`"eviction"`), []byte(`"delete"`), []byte(`"deletecollection"`)}
)

// candidate reports whether a line may concern us; what it leaves out does not.
func candidate(line []byte) bool {
	if bytes.Contains(line, pods) && slices.ContainsFunc(verbs, func(v []byte) bool { return bytes.Contains(line, v) }) {
		return true
	}
	return bytes.Contains(line, recordMark)
}

// Parse reads a line: an audit event, a list of events or a record. The answer is set for Answered only. An
// error means that the line may concern us and cannot be read.
func (p *Parser) Parse(line []byte) (record.Answer, Kind, error) {
	if !candidate(line) {
		return record.Answer{}, Other, nil
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return record.Answer{}, Other, err
	}
	switch {
	case e.Kind == "EventList":
		return record.Answer{}, List, nil
	case e.RecordVersion > 0 && e.Kind == "":
		return record.Answer{}, Decision, nil
	case e.Kind != "" && e.Kind != "Event":
		return record.Answer{}, Other, nil
	}
	return p.read(&e)
}

func (p *Parser) read(e *event) (record.Answer, Kind, error) {
	kind := e.concerns()
	switch {
	case kind == Other:
		return record.Answer{}, Other, nil
	case !p.inScope(e.ObjectRef.Namespace):
		return record.Answer{}, OutOfScope, nil
	case kind == Collection:
		return record.Answer{}, Collection, nil
	case e.AuditID == "" || e.StageTimestamp.IsZero():
		return record.Answer{}, Other, errors.New("the audit event has no auditID or no stageTimestamp")
	case e.ObjectRef.Namespace == "" || e.ObjectRef.Name == "":
		return record.Answer{}, Other, errors.New("the audit event names no pod")
	case !strings.HasPrefix(e.APIVersion, "audit.k8s.io/") && e.APIVersion != "": // items of a list have none
		return record.Answer{}, Other, fmt.Errorf("the event is of %s, not of audit.k8s.io/v1", text(e.APIVersion, 64))
	}
	return p.answer(e), Answered, nil
}

// concerns tells the requests that count: the creation of an eviction and the deletion of a pod, each at the
// stage that has the answer. The kubelet's own deletions only finish what somebody else has asked for.
func (e *event) concerns() Kind {
	if e.ObjectRef.Resource != "pods" || e.ObjectRef.APIGroup != "" || (e.Stage != "ResponseComplete" && e.Stage != "Panic") {
		return Other
	}
	switch {
	case e.Verb == "create" && e.ObjectRef.Subresource == "eviction":
		return Answered
	case e.ObjectRef.Subresource != "" || strings.HasPrefix(e.username(), "system:node:"):
		return Other
	case e.Verb == "delete":
		return Answered
	case e.Verb == "deletecollection":
		return Collection
	}
	return Other
}

func (p *Parser) inScope(namespace string) bool {
	return (len(p.o.Namespaces) == 0 || slices.Contains(p.o.Namespaces, namespace)) && !slices.Contains(p.o.Exempt, namespace)
}

// username is who acts: an impersonated user, if any.
func (e *event) username() string {
	if e.ImpersonatedUser != nil && e.ImpersonatedUser.Username != "" {
		return e.ImpersonatedUser.Username
	}
	return e.User.Username
}

// These bound what is kept of a field, in bytes: a client chooses its user agent and the name in the URL,
// another webhook its message.
const (
	maxName    = 512
	maxMessage = 16 << 10
)

func (p *Parser) answer(e *event) record.Answer {
	a := record.Answer{
		ID:        text(e.AuditID, maxName) + "@" + e.StageTimestamp.UTC().Format(time.RFC3339Nano),
		At:        e.StageTimestamp.UTC(),
		Verb:      record.VerbDelete,
		Namespace: text(e.ObjectRef.Namespace, maxName),
		Pod:       text(e.ObjectRef.Name, maxName),
		User:      text(e.username(), maxName),
		UserAgent: text(e.UserAgent, maxName),
		Code:      e.ResponseStatus.Code,
		Reason:    text(e.ResponseStatus.Reason, maxName),
		Message:   hooks.MaskPath(text(e.ResponseStatus.Message, maxMessage)), // it may name the secret path
	}
	if e.ResponseStatus.Message == closedEarly {
		a.Code = 0
	}
	options := e.deleteOptions()
	a.DryRun = len(options.DryRun) > 0 || dryRunInQuery(e.RequestURI)
	a.PodUID = text(e.podUID(options), maxName)
	if e.ObjectRef.Subresource == "eviction" {
		a.Verb = record.VerbEvict
		a.ReviewUID = text(e.Annotations[p.o.WebhookName+"/review-uid"], maxName)
		a.Passage = p.passage(e)
	}
	if !a.Succeeded() && !p.oursToRefuse(e, a.Passage) {
		a.RefusedBy = text(e.refuser(), maxName)
	}
	return a
}

// closedEarly is the message of an answer that the API server never wrote; the 200 that goes with it says
// nothing (k8s.io/apiserver/pkg/endpoints/filters/audit.go).
const closedEarly = "Connection closed early"

// deleteOptions are there at level Request and above. An eviction has them as a member, and to a deletion
// they are the whole body.
func (e *event) deleteOptions() deleteOptions {
	var o struct {
		deleteOptions
		Inner *deleteOptions `json:"deleteOptions"`
	}
	if len(e.RequestObject) > 0 {
		_ = json.Unmarshal(e.RequestObject, &o) // a body that is not an object has no options
	}
	switch {
	case e.ObjectRef.Subresource == "":
		return o.deleteOptions
	case o.Inner != nil:
		return *o.Inner
	}
	return deleteOptions{}
}

// podUID is the UID of the pod, where the answer proves it: it is in the response object, or was a
// precondition and the request succeeded.
func (e *event) podUID(o deleteOptions) string {
	var response struct {
		Kind     string `json:"kind"`
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
		Details struct {
			Kind string `json:"kind"`
			UID  string `json:"uid"`
		} `json:"details"`
	}
	if len(e.ResponseObject) > 0 {
		_ = json.Unmarshal(e.ResponseObject, &response) // a response that is not an object names no pod
	}
	switch {
	case response.Kind == "Pod" && response.Metadata.UID != "":
		return response.Metadata.UID
	case response.Kind == "Status" && response.Details.Kind == "pods" && response.Details.UID != "":
		return response.Details.UID
	case e.ResponseStatus.Code >= 200 && e.ResponseStatus.Code < 300:
		return o.Preconditions.UID
	}
	return ""
}

// dryRunInQuery reads ?dryRun=All from the request's URI.
func dryRunInQuery(uri string) bool {
	_, query, found := strings.Cut(uri, "?")
	if !found {
		return false
	}
	values, _ := url.ParseQuery(query) // it keeps what can be read
	return slices.ContainsFunc(values["dryRun"], func(v string) bool { return v != "" })
}

// text bounds a string and takes what a database may refuse out of it.
func text(s string, limit int) string {
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit] + "…"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Events splits an EventList.
func Events(list []byte) ([]json.RawMessage, error) {
	var l struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(list, &l); err != nil {
		return nil, fmt.Errorf("read event list: %w", err)
	}
	return l.Items, nil
}
