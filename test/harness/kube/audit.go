package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditEvent is what kube-apiserver says about one request: the part of audit.k8s.io/v1 Event
// that tests ask for. The policy in force records the creation of pods/eviction with both
// bodies and updates of poddisruptionbudgets/status without, and nothing else.
type AuditEvent struct {
	AuditID    string `json:"auditID"`
	Stage      string `json:"stage"`
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	User       struct {
		Username string   `json:"username"`
		Groups   []string `json:"groups"`
	} `json:"user"`
	ObjectRef struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus metav1.Status     `json:"responseStatus"`
	Annotations    map[string]string `json:"annotations"`
	RequestObject  json.RawMessage   `json:"requestObject"`
	ResponseObject json.RawMessage   `json:"responseObject"`
}

// AuditEvents reads the audit log from its beginning, in the order of the answers. An event
// is written just after its answer is sent, so a test waits for the one it wants.
func (c *ControlPlane) AuditEvents() ([]AuditEvent, error) {
	log, err := os.ReadFile(c.file(auditLog))
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var events []AuditEvent
	for len(log) > 0 {
		line, rest, complete := bytes.Cut(log, []byte("\n"))
		if !complete {
			break // still being written
		}
		log = rest
		var event AuditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("read audit event %d: %w", len(events)+1, err)
		}
		events = append(events, event)
	}
	return events, nil
}
