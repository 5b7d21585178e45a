package apilog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/evictgate/evictgate/webhook/internal/logfile"
	"github.com/evictgate/evictgate/webhook/record"
)

// Counts says what a Reader has read.
type Counts struct {
	// Bytes are those of the file as it is, compressed or not.
	Bytes int64 `json:"bytes"`
	Lines int64 `json:"lines"`
	// Answers and Decisions were found. Collections, OutOfScope, TooLong and Malformed were left out, as were
	// Other lines.
	Answers     int64 `json:"answers"`
	Decisions   int64 `json:"decisions"`
	Collections int64 `json:"collections"`
	OutOfScope  int64 `json:"out_of_scope"`
	Other       int64 `json:"other"`
	TooLong     int64 `json:"too_long"`
	Malformed   int64 `json:"malformed"`
	// From and Until are the times of the first and the last audit event, whatever it is about: what the API
	// server was asked in between is in the log, as far as the audit policy says.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Add sums up two files.
func (c *Counts) Add(o Counts) {
	c.Bytes, c.Lines = c.Bytes+o.Bytes, c.Lines+o.Lines
	c.Answers, c.Decisions = c.Answers+o.Answers, c.Decisions+o.Decisions
	c.Collections, c.OutOfScope, c.Other = c.Collections+o.Collections, c.OutOfScope+o.OutOfScope, c.Other+o.Other
	c.TooLong, c.Malformed = c.TooLong+o.TooLong, c.Malformed+o.Malformed
	c.covers(o.From)
	c.covers(o.Until)
}

func (c *Counts) covers(at time.Time) {
	if at.IsZero() {
		return
	}
	if c.From.IsZero() || at.Before(c.From) {
		c.From = at
	}
	if at.After(c.Until) {
		c.Until = at
	}
}

// Entry is one thing found: an answer or a record, or why a line cannot be read.
type Entry struct {
	Line   int64
	Kind   Kind
	Answer record.Answer
	Record record.Record
	// Err is set for a line that may concern us and cannot be read; then the rest is empty.
	Err error
}

// Reader finds answers and records in a log; logfile says in what forms.
type Reader struct {
	// Counts is of what Next has passed.
	Counts Counts
	// Progress, if it is set, is called about every 10,000 lines.
	Progress func(Counts)

	parser *Parser
	raw    *counting
	lines  *logfile.Reader
	// line is the number of the line that is read.
	line int64
	// last holds the last audit event, for its time.
	last []byte
	// queued[next:] waits to be returned.
	queued []Entry
	next   int
	done   bool
}

// counting counts the bytes that are read.
type counting struct {
	io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// NewReader begins to read.
func NewReader(in io.Reader, p *Parser) (*Reader, error) {
	raw := &counting{Reader: in}
	lines, err := logfile.New(raw)
	if err != nil {
		return nil, err
	}
	return &Reader{parser: p, raw: raw, lines: lines}, nil
}

// Next returns what is found next. At the end its error is io.EOF; any other error is of the stream, which
// ends with it.
func (r *Reader) Next() (Entry, error) {
	for r.next == len(r.queued) {
		r.queued, r.next = r.queued[:0], 0
		if r.done {
			return Entry{}, io.EOF
		}
		if err := r.advance(); err != nil {
			r.done = true
			r.sawEvent(r.last)
			if !errors.Is(err, io.EOF) {
				return Entry{}, err
			}
		}
	}
	r.next++
	return r.queued[r.next-1], nil
}

// advance reads a line and queues what is in it.
func (r *Reader) advance() error {
	line, err := r.lines.Next()
	r.Counts.Bytes = r.raw.n
	r.count()
	if err != nil {
		return err
	}
	r.line = int64(line.Number)
	switch {
	case errors.Is(line.Err, logfile.ErrLong):
		r.Counts.TooLong++
		r.queue(Entry{Err: line.Err})
	case line.Err != nil:
		r.malformed(line.Err)
	case line.Kind == logfile.Known:
		r.event(line.Text)
	case line.Kind == logfile.Object:
		r.unknown(line.Text)
	default:
		r.Counts.Other++
	}
	return nil
}

// progressEvery is after how many lines progress is told.
const progressEvery = 10_000

func (r *Reader) count() {
	before := r.Counts.Lines
	r.Counts.Lines = int64(r.lines.Lines())
	if r.Progress != nil && r.Counts.Lines/progressEvery != before/progressEvery {
		r.Progress(r.Counts)
	}
}

// unknown reads an object that does not say what it is. What may concern us is not passed over.
func (r *Reader) unknown(object []byte) {
	before := r.Counts.Other
	if r.event(object); r.Counts.Other > before && logfile.Suspicious(object) {
		r.Counts.Other = before
		r.malformed(logfile.ErrUnknown)
	}
}

func (r *Reader) event(line []byte) {
	r.saw(line)
	answer, kind, err := r.parser.Parse(line)
	if err != nil {
		r.malformed(err)
		return
	}
	switch kind {
	case Answered:
		r.Counts.Answers++
		r.Counts.covers(answer.At)
		r.queue(Entry{Kind: kind, Answer: answer})
	case Decision:
		r.decision(line)
	case List:
		r.list(line)
	case Collection:
		r.Counts.Collections++
	case OutOfScope:
		r.Counts.OutOfScope++
	default:
		r.Counts.Other++
	}
}

func (r *Reader) decision(line []byte) {
	record, err := record.Parse(line)
	switch {
	case err != nil:
		r.malformed(err)
	case !r.parser.inScope(record.Request.Namespace):
		r.Counts.OutOfScope++
	default:
		r.Counts.Decisions++
		r.queue(Entry{Kind: Decision, Record: record})
	}
}

func (r *Reader) list(line []byte) {
	items, err := Events(line)
	if err != nil {
		r.malformed(err)
		return
	}
	for _, item := range items {
		r.event(item)
	}
}

func (r *Reader) malformed(err error) {
	r.Counts.Malformed++
	r.queue(Entry{Err: err})
}

func (r *Reader) queue(e Entry) {
	e.Line = r.line
	r.queued = append(r.queued, e)
}

// An audit event begins with its apiVersion, and its stage's time looks like this, as kube-apiserver and jq -c
// write it.
var (
	group = []byte(`"audit.k8s.io/`)
	stamp = []byte(`"stageTimestamp":`)
)

// saw notes the time of the first event, and keeps the last one: to look for the time in each would cost as
// much as all the rest.
func (r *Reader) saw(line []byte) {
	if !bytes.Contains(line[:min(len(line), 128)], group) {
		return
	}
	if r.Counts.From.IsZero() {
		r.sawEvent(line)
	}
	r.last = append(r.last[:0], line...)
}

func (r *Reader) sawEvent(line []byte) {
	start := bytes.Index(line, stamp)
	if start < 0 {
		return
	}
	var at time.Time
	value := bytes.TrimLeft(line[start+len(stamp):], " ")
	if end := bytes.IndexAny(value, ",}"); end > 0 && json.Unmarshal(value[:end], &at) == nil {
		r.Counts.covers(at.UTC())
	}
}
