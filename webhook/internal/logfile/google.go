package logfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"time"
)

// googleEntry is what is read of an entry of Google Cloud's audit logs about Kubernetes, which has what an audit event has
// under other names. See https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog and
// https://cloud.google.com/kubernetes-engine/docs/how-to/audit-logging.
type googleEntry struct {
	Payload struct {
		Type           string `json:"@type"`
		MethodName     string `json:"methodName"`
		ResourceName   string `json:"resourceName"`
		Authentication struct {
			Principal string `json:"principalEmail"`
		} `json:"authenticationInfo"`
		Metadata struct {
			UserAgent string `json:"callerSuppliedUserAgent"`
		} `json:"requestMetadata"`
		Request  json.RawMessage `json:"request"`
		Response json.RawMessage `json:"response"`
		Status   struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"status"`
	} `json:"protoPayload"`
	InsertID  string            `json:"insertId"`
	Timestamp time.Time         `json:"timestamp"`
	Labels    map[string]string `json:"labels"`
	Operation struct {
		ID string `json:"id"`
	} `json:"operation"`
}

// httpCodes are those of Google's status codes, for entries that lack the response:
// https://cloud.google.com/apis/design/errors.
var httpCodes = map[int]int{0: 201, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401}

// googleEvent makes an audit event of an entry of Google Cloud's audit log; nil of any other object.
func googleEvent(object []byte) []byte {
	if !bytes.Contains(object, []byte("google.cloud.audit.AuditLog")) {
		return nil
	}
	var e googleEntry
	method, ok := "", false
	if json.Unmarshal(object, &e) == nil {
		method, ok = strings.CutPrefix(e.Payload.MethodName, "io.k8s.")
	}
	if !ok {
		return nil
	}
	parts := strings.Split(method, ".")
	ref := googleRef(e.Payload.ResourceName)
	event := map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "auditID": cmp.Or(e.Operation.ID, e.InsertID),
		"verb": parts[len(parts)-1], "user": map[string]string{"username": e.Payload.Authentication.Principal}, "userAgent": e.Payload.Metadata.UserAgent,
		"objectRef": ref, "stageTimestamp": e.Timestamp, "annotations": e.Labels, "responseStatus": e.status(),
	}
	if len(e.Payload.Request) > 0 {
		event["requestObject"] = e.Payload.Request
	}
	text, err := json.Marshal(event)
	if err != nil {
		return nil
	}
	return text
}

// status is the Status of the response, or what the entry says of it.
func (e *googleEntry) status() any {
	var response struct {
		Type string `json:"@type"`
		Code int    `json:"code"`
	}
	if json.Unmarshal(e.Payload.Response, &response) == nil && response.Code > 0 {
		return e.Payload.Response
	}
	return map[string]any{"code": httpCodes[e.Payload.Status.Code], "message": e.Payload.Status.Message}
}

// googleRef reads a resource's name, such as core/v1/namespaces/shop/pods/web-0/eviction.
func googleRef(name string) map[string]string {
	parts := strings.Split(name, "/")
	ref := map[string]string{}
	if len(parts) < 3 {
		return ref
	}
	if ref["apiGroup"] = parts[0]; parts[0] == "core" {
		ref["apiGroup"] = ""
	}
	if parts = parts[2:]; parts[0] == "namespaces" && len(parts) > 2 {
		ref["namespace"], parts = parts[1], parts[2:]
	}
	for i, key := range []string{"resource", "name", "subresource"} {
		if i < len(parts) {
			ref[key] = parts[i]
		}
	}
	return ref
}
