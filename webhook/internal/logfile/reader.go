// Package logfile finds decision records and events of kube-apiserver's audit log in files: one a line, as they were
// written, or in what carries logs from there to the reader: behind a prefix (kubectl logs, oc adm node-logs, aws logs tail,
// logcli), in lines of container runtimes, whose parts are joined (Docker, CRI), in the JSON of log collectors and clouds
// (Azure, AWS, Google, Elasticsearch, Fluent Bit, Loki), in arrays, or printed over several lines; compressed by gzip, or as
// UTF-16. What may hold one and cannot be read is never passed over.
package logfile

import (
	"bytes"
	"errors"
	"io"
)

// Line is what is found in a line.
type Line struct {
	// Number is that of the line where it begins, from 1.
	Number int
	// Kind says what Text is. It is valid until the next call.
	Kind Kind
	Text []byte
	// Err says why a line that may hold one cannot be read; Text is empty then.
	Err error
}

// Kind says what was found.
type Kind int

const (
	// Other is a line that concerns nobody who looks for decisions, such as the log of a program.
	Other Kind = iota
	// Object is an object of JSON that does not say what it is.
	Object
	// Known is a record, an audit event or a list of those, by what it says of itself.
	Known
)

// The errors of lines, beside ErrLong and ErrTrailing.
var (
	ErrTorn    = errors.New("the line is torn: no whole JSON object")
	ErrUnknown = errors.New("it may hold a decision record or an audit event, in a form that is not known")
)

// Reader reads a file.
type Reader struct {
	lines *physical
	// number is that of the last line; again are lines that are read once more, in their order.
	number int
	again  []source
	// parts are what was read so far of lines that a container runtime cuts, by its stream.
	parts map[string]*source
	// queued[next:] waits to be returned.
	queued []Line
	next   int
	done   bool
}

// source is a line of the file.
type source struct {
	number int
	text   []byte
	err    error
	// joined counts the attempts to join the line to others.
	joined int
}

// maxJoined bounds how often a line is looked at.
const maxJoined = 8

// New begins to read.
func New(r io.Reader) (*Reader, error) {
	lines, err := newPhysical(r)
	if err != nil {
		return nil, err
	}
	return &Reader{lines: lines, parts: map[string]*source{}}, nil
}

// Lines is how many lines were read.
func (r *Reader) Lines() int { return r.number - len(r.again) }

// Next returns what is found next. Empty lines are passed over. At the end its error is io.EOF; any other error is of the
// stream, which ends with it.
func (r *Reader) Next() (Line, error) {
	for r.next == len(r.queued) {
		r.queued, r.next = r.queued[:0], 0
		if r.done {
			return Line{}, io.EOF
		}
		l, err := r.line()
		switch {
		case errors.Is(err, io.EOF):
			r.end()
		case err != nil:
			r.done = true
			return Line{}, err
		default:
			r.take(l)
		}
	}
	r.next++
	return r.queued[r.next-1], nil
}

// line is the next line of the file.
func (r *Reader) line() (source, error) {
	if len(r.again) > 0 {
		l := r.again[0]
		r.again = r.again[1:]
		return l, nil
	}
	text, err := r.lines.next()
	if err != nil && !errors.Is(err, ErrLong) {
		return source{}, err
	}
	r.number++
	return source{number: r.number, text: text, err: err}, nil
}

func (r *Reader) end() {
	r.done = true
	for stream, part := range r.parts {
		delete(r.parts, stream)
		r.unwrap(*part)
	}
	if r.lines.trailing() {
		r.queue(Line{Number: r.number, Err: ErrTrailing})
	}
}

func (r *Reader) queue(l Line) { r.queued = append(r.queued, l) }

// take sorts a line. Most are as they were written, and are not looked into.
func (r *Reader) take(l source) {
	text := bytes.TrimSpace(l.text)
	switch {
	case l.err != nil:
		r.queue(Line{Number: l.number, Err: l.err})
	case len(text) == 0:
	case asWritten(text):
		r.queue(Line{Number: l.number, Kind: Known, Text: text})
	default:
		if stream, rest, partial, ok := runtimeLine(text); ok {
			r.part(stream, source{number: l.number, text: rest}, partial)
			return
		}
		r.unwrap(source{number: l.number, text: l.text, joined: l.joined})
	}
}

// asWritten recognizes what evictgate serve and kube-apiserver write, by how it begins, where it is alone.
func asWritten(text []byte) bool {
	begins, heads := false, 0
	for _, head := range written {
		begins = begins || bytes.HasPrefix(text, head)
	}
	if !begins || text[len(text)-1] != '}' {
		return false
	}
	for _, head := range written {
		heads += bytes.Count(text, head)
	}
	return heads == 1
}

var written = [][]byte{[]byte(`{"record_version":`), []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/`)}

// runtimeLine recognizes a line of the container runtime interface: its time, stdout or stderr, and P for a part that goes
// on in the next line, or F.
func runtimeLine(text []byte) (stream string, rest []byte, partial, ok bool) {
	fields := bytes.SplitN(text, []byte(" "), 4)
	if len(fields) < 3 || len(fields[0]) == 0 || fields[0][0] < '0' || fields[0][0] > '9' {
		return "", nil, false, false
	}
	stream = string(fields[1])
	tag, _, _ := bytes.Cut(fields[2], []byte(":"))
	if (stream != "stdout" && stream != "stderr") || (string(tag) != "P" && string(tag) != "F") {
		return "", nil, false, false
	}
	if len(fields) == 4 {
		rest = fields[3]
	}
	return stream, rest, string(tag) == "P", true
}

// part adds a part of a line, and looks at the line when it is whole.
func (r *Reader) part(stream string, l source, partial bool) {
	if before := r.parts[stream]; before != nil {
		if len(before.text)+len(l.text) > MaxLine {
			delete(r.parts, stream)
			r.queue(Line{Number: before.number, Err: ErrLong})
			return
		}
		before.text = append(before.text, l.text...)
		l = *before
	} else if partial {
		l.text = bytes.Clone(l.text)
	}
	if partial {
		r.parts[stream] = &l
		return
	}
	delete(r.parts, stream)
	r.unwrap(source{number: l.number, text: l.text, joined: maxJoined})
}
