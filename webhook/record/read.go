package record

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxLine bounds a line in bytes: the largest objects that etcd takes are 1.5 MiB, and a record may hold
// several of them, as may an event of the API server's audit log.
const MaxLine = 16 << 20

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

// Read reads the records among the lines of r, which may be gzipped: what serve prints, also with
// the log between them and with a prefix on each line, as kubectl logs gives them. A line without a record
// is a *LineError, which wraps ErrOtherLine when it was never one; any other error is the last one.
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

// Line is a line of text that may hold a record.
type Line struct {
	// Number counts from 1.
	Number int
	// Text is valid until the next line is read.
	Text []byte
}

// ReadLines reads the lines of r, which may be gzipped, but for empty ones. A line that is too long is a
// *LineError; any other error is the last one. It is for those who read records in several goroutines.
func ReadLines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		lines, err := NewLines(r)
		if err != nil {
			yield(Line{}, err)
			return
		}
		for n := 1; ; n++ {
			text, err := lines.Next()
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.Is(err, ErrLong):
				err = &LineError{Line: n, Err: err}
			case err != nil:
				yield(Line{}, fmt.Errorf("line %d: %w", n, err))
				return
			case len(bytes.TrimSpace(text)) == 0:
				continue
			}
			if !yield(Line{n, text}, err) {
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

// Lines reads lines of a bounded length.
type Lines struct{ r *bufio.Reader }

// NewLines begins to read, what is compressed with gzip uncompressed. It looks at the first bytes, not at a
// name: stdin has none. Several gzip members one after the other are one stream.
func NewLines(r io.Reader) (*Lines, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	if head, _ := lines.Peek(2); !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return &Lines{lines}, nil
	}
	plain, err := gzip.NewReader(lines)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return &Lines{bufio.NewReaderSize(plain, 64<<10)}, nil
}

// ErrLong says that a line is longer than MaxLine.
var ErrLong = fmt.Errorf("longer than %d MiB", MaxLine>>20)

// Next reads one line with its end; the last need not have one. It is valid until the next call. The error is
// io.EOF at the end, and ErrLong for a line that is too long, behind which the reading goes on.
func (l *Lines) Next() ([]byte, error) {
	r := l.r
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return whole(line, err)
	}
	long, tooLong := bytes.Clone(line), false
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if tooLong = tooLong || len(long)+len(line) > MaxLine; !tooLong {
			long = append(long, line...)
		}
	}
	if tooLong && (err == nil || errors.Is(err, io.EOF)) {
		return nil, ErrLong
	}
	return whole(long, err)
}

// whole takes the end of the input for the end of the line that stands before it.
func whole(line []byte, err error) ([]byte, error) {
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return line, err
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
