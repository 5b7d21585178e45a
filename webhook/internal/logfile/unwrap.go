package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	// maxDepth is how far objects are looked into.
	maxDepth = 8
	// maxFailures bounds the brackets of a text that begin no object.
	maxFailures = 1000
)

// Suspicious reports whether a text may hold a record, or an audit event that matters.
func Suspicious(text []byte) bool {
	has := func(s string) bool { return bytes.Contains(text, []byte(s)) }
	return has(`"record_version`) || (has("eviction") && (has("audit.k8s.io/") || has("AUDIT: id=")))
}

// search is what is found in a text.
type search struct {
	number int
	found  []Line
	// object is the first whole object, known or not.
	object []byte
	// open is where an object begins that does not end in the text; -1 when there is none. bad is set when what may be a
	// record or an event is not valid JSON.
	open     int
	bad      bool
	failures int
	// docker is the rest of a line that Docker cut, with the stream that it is of; begins is set where it is the first.
	docker, stream string
	begins         bool
}

// unwrap looks for objects in a line.
func (r *Reader) unwrap(l source) {
	text := bytes.TrimSpace(l.text)
	s := search{number: l.number, open: -1}
	s.text(text, 0)
	if s.open == 0 && l.joined < maxJoined {
		l.text = bytes.Clone(l.text) // more lines are read
		if text = bytes.TrimSpace(l.text); r.join(l) {
			return
		}
	}
	if s.stream != "" {
		stream := "docker " + s.stream
		r.part(stream, source{number: l.number, text: []byte(s.docker)}, !strings.HasSuffix(s.docker, "\n") && (s.begins || r.parts[stream] != nil))
		return
	}
	r.queued = append(r.queued, s.found...)
	switch {
	case s.bad, s.open >= 0 && Suspicious(text[s.open:]):
		r.queue(Line{Number: l.number, Err: ErrTorn})
	case len(s.found) > 0:
	case programLine(s.object):
		r.queue(Line{Number: l.number, Text: text})
	case len(s.object) == len(text): // whatever it is, who reads it knows how to say it
		r.queue(Line{Number: l.number, Kind: Object, Text: text})
	case torn(text):
		r.queue(Line{Number: l.number, Err: ErrTorn})
	case Suspicious(text):
		r.queue(Line{Number: l.number, Err: ErrUnknown})
	default:
		r.queue(Line{Number: l.number, Text: text})
	}
}

// torn recognizes a line that begins or ends as an object of JSON does, and is none.
func torn(text []byte) bool {
	var n nesting
	return (text[0] == '{' || text[len(text)-1] == '}') && (!n.add(text) || n.depth > 0)
}

// text looks for objects in a text, one after the other.
func (s *search) text(text []byte, depth int) {
	for at := 0; ; {
		begin := bytes.IndexByte(text[at:], '{')
		if begin < 0 {
			return
		}
		at += begin
		var object json.RawMessage
		d := json.NewDecoder(bytes.NewReader(text[at:]))
		err := d.Decode(&object)
		var syntax *json.SyntaxError
		switch {
		case err == nil:
			s.see(object, depth)
			at += int(d.InputOffset())
		case errors.Is(err, io.ErrUnexpectedEOF):
			if s.open < 0 {
				s.open = at
			}
			return
		case s.failures == maxFailures:
			s.bad = s.bad || Suspicious(text[at:])
			return
		case errors.As(err, &syntax):
			s.failures++
			end := at + max(1, int(syntax.Offset)-1)
			s.bad = s.bad || Suspicious(text[at:end])
			at = end
		default:
			return
		}
	}
}

// see looks at an object, and into it where it is none of those that are looked for.
func (s *search) see(object []byte, depth int) {
	if s.object == nil {
		s.object = object
	}
	var head struct {
		Version    json.RawMessage `json:"record_version"`
		APIVersion json.RawMessage `json:"apiVersion"`
	}
	if json.Unmarshal(object, &head) != nil {
		return
	}
	if head.Version != nil || bytes.HasPrefix(head.APIVersion, []byte(`"audit.k8s.io/`)) {
		s.found = append(s.found, Line{Number: s.number, Kind: Known, Text: object})
		return
	}
	if event := googleEvent(object); event != nil {
		s.found = append(s.found, Line{Number: s.number, Kind: Known, Text: event})
		return
	}
	if depth == maxDepth || programLine(object) || !Suspicious(object) && !bytes.Contains(object, []byte("audit.k8s.io/")) && !dockerLine(object) {
		return
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil {
		return
	}
	if depth == 0 && s.cut(members) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		s.member(name, members[name], depth+1)
	}
}

// payloads are the members in which collectors carry the text of a line; see docs/platforms.md. Others may hold what
// anybody wrote, such as a pod's annotations.
var payloads = []string{"log", "message", "@message", "MESSAGE", "line", "_raw", "original", "body", "textPayload"}

// programLine recognizes a line of a program's own log, which may quote what anybody wrote: evictgate's, for one.
func programLine(object []byte) bool {
	var line struct {
		Level json.RawMessage `json:"level"`
		Msg   json.RawMessage `json:"msg"`
	}
	return json.Unmarshal(object, &line) == nil && line.Level != nil && line.Msg != nil
}

// member looks into a member of an object.
func (s *search) member(name string, value []byte, depth int) {
	switch value = bytes.TrimSpace(value); value[0] {
	case '{', '[':
		if name != "kubernetes" && name != "labels" && name != "annotations" {
			s.text(value, depth)
		}
	case '"':
		var text string
		if slices.Contains(payloads, name) && json.Unmarshal(value, &text) == nil {
			s.quoted([]byte(text), depth)
		}
	}
}

// quoted looks into a text within JSON: one that is torn stays so.
func (s *search) quoted(text []byte, depth int) {
	inner := search{number: s.number, object: s.object, open: -1}
	inner.text(text, depth)
	s.found = append(s.found, inner.found...)
	s.bad = s.bad || inner.bad || (inner.open >= 0 && Suspicious(text[inner.open:]))
}

// dockerLine recognizes a line of Docker's json-file by how it begins.
func dockerLine(object []byte) bool { return bytes.HasPrefix(object, []byte(`{"log":`)) }

// cut recognizes a line of Docker's json-file that goes on in the next one, or ends one: its log has no end of a line, and no
// whole object.
func (s *search) cut(members map[string]json.RawMessage) bool {
	var log, stream string
	if len(members) > 4 || json.Unmarshal(members["log"], &log) != nil || json.Unmarshal(members["stream"], &stream) != nil || members["time"] == nil {
		return false
	}
	whole := search{number: s.number, open: -1}
	whole.text([]byte(log), 1)
	if strings.HasSuffix(log, "\n") && len(whole.found) > 0 || !strings.HasSuffix(log, "\n") && whole.open < 0 && len(whole.found) > 0 {
		return false
	}
	s.docker, s.stream, s.begins = log, stream, whole.open >= 0
	return true
}
