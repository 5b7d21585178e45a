package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/evictgate/evictgate/webhook/internal/logfile"
)

// MaxLine bounds a line in bytes.
const MaxLine = logfile.MaxLine

// ErrOtherLine says that a line is none of a record's, such as the log between the records of kubectl logs.
var ErrOtherLine = errors.New("no record")

// LineError says why a line gives no record. The reading goes on behind it.
type LineError struct {
	// Line counts from 1.
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%d: %v", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Read reads the records in r: what serve prints, also with the log between them, and in what carries logs; see logfile. A
// line without a record is a *LineError, which wraps ErrOtherLine when it was never one; any other error is the last one.
func Read(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for line, err := range ReadLines(r) {
			var record Record
			if err == nil {
				record, err = line.Record()
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

// Line is text that may hold a record.
type Line struct {
	// Number is that of the line where it begins, from 1.
	Number int
	// Text is valid until the next line is read.
	Text []byte
}

// ReadLines reads the lines of r, but for empty ones, as logfile finds them. A line that cannot be read is a *LineError; any
// other error is the last one. It is for those who read records in several goroutines.
func ReadLines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		lines, err := logfile.New(r)
		if err != nil {
			yield(Line{}, err)
			return
		}
		for {
			l, err := lines.Next()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Line{}, fmt.Errorf("line %d: %w", lines.Lines()+1, err))
				return
			case l.Err != nil:
				err = &LineError{Line: l.Number, Err: l.Err}
			case l.Kind == logfile.Object && logfile.Suspicious(l.Text):
				err = &LineError{Line: l.Number, Err: logfile.ErrUnknown}
			}
			if !yield(Line{l.Number, l.Text}, err) {
				return
			}
		}
	}
}

// Record reads the record in the line. Its error is a *LineError.
func (l Line) Record() (Record, error) {
	r, err := Parse(l.Text)
	if err != nil {
		return r, &LineError{Line: l.Number, Err: err}
	}
	return r, nil
}

// Parse reads a line: a record, whatever stands before it. No log line of ours holds the key, since it
// quotes what it tells. The error of a line that was never a record is ErrOtherLine.
func Parse(line []byte) (Record, error) {
	var r Record
	start := bytes.IndexByte(line, '{')
	if start < 0 || !bytes.Contains(line, []byte(`"record_version"`)) {
		return r, ErrOtherLine
	}
	if err := json.Unmarshal(bytes.TrimRight(line[start:], "\r\n"), &r); err != nil {
		return Record{}, err
	}
	switch {
	case r.Version < 1 || r.Version > Version:
		return Record{}, fmt.Errorf("record version %d; this evictgate reads version %d", r.Version, Version)
	case r.DecisionID == "" || r.Result == nil || r.Timestamp.IsZero() || r.Request.Name == "":
		return Record{}, errors.New("a record without decision_id, timestamp, request or result")
	}
	return r, nil
}
