package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Elements reads a JSON array member by member, and holds one of them in memory at a time, of bounded size. It
// finds out where each ends, and not whether it is JSON: the reader of the member does.
type Elements struct {
	r *bufio.Reader
	// at counts the bytes that were read.
	at    int64
	limit int
	// member is the last one; its memory is used again.
	member []byte
	// begun says that the array has, and some that a member was read.
	begun, some bool
}

// The errors of Elements; others are of the stream.
var (
	// ErrNoArray: what is read does not begin as an array.
	ErrNoArray = errors.New("no JSON array")
	// ErrNoComma: something else stands behind a member.
	ErrNoComma = errors.New("expected comma after array element")
	// ErrLargeElement: a member is larger than the limit.
	ErrLargeElement = errors.New("an element is too large")
)

// NewElements begins to read an array whose members have at most limit bytes each.
func NewElements(r io.Reader, limit int) *Elements {
	return &Elements{r: bufio.NewReaderSize(r, 32<<10), limit: limit}
}

// InArray begins behind the [ of an array.
func (e *Elements) InArray() *Elements {
	e.begun = true
	return e
}

// At is how many bytes were read.
func (e *Elements) At() int64 { return e.at }

// Next is the next member, and the byte at which it begins. It is valid until the next call. At the end of the
// array the error is io.EOF; a stream that ends before that gives io.ErrUnexpectedEOF.
func (e *Elements) Next() (member []byte, start int64, err error) {
	first := !e.begun
	if first {
		if err := e.open(); err != nil {
			return nil, 0, err
		}
	}
	c, err := e.skip()
	if err != nil {
		return nil, e.at, ended(err)
	}
	switch {
	case c == ']':
		return nil, e.at, io.EOF
	case e.some && c != ',':
		return nil, e.at - 1, ErrNoComma
	case e.some:
		if c, err = e.skip(); err != nil {
			return nil, e.at, ended(err)
		}
	}
	start, e.some = e.at-1, true
	err = e.read(c)
	return e.member, start, err
}

// Free gives the memory of the last member back: for who lets others go first.
func (e *Elements) Free() { e.member = nil }

func (e *Elements) open() error {
	c, err := e.skip()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err != nil || c != '[' {
		return ErrNoArray
	}
	e.begun = true
	return nil
}

// Rest is nil when nothing but white space follows the array.
func (e *Elements) Rest() error {
	_, err := e.skip()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("something follows the array: byte %d", e.at-1)
}

// skip is the next byte that is not white space.
func (e *Elements) skip() (byte, error) {
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return 0, err
		}
		e.at++
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, nil
		}
	}
}

// read reads a member that begins with c, up to its end: that of an object, a list or a string, or what stands
// behind any other value.
func (e *Elements) read(c byte) error {
	e.member = e.member[:0]
	depth, inString, escaped := 0, false, false
	for {
		if len(e.member) >= e.limit {
			return fmt.Errorf("%w: more than %d bytes", ErrLargeElement, e.limit)
		}
		e.member = append(e.member, c)
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth <= 0 && !inString && e.complete(c) {
			return nil
		}
		var err error
		if c, err = e.r.ReadByte(); err != nil {
			return ended(err)
		}
		e.at++
	}
}

// complete reports whether a value outside of which we are ends with c.
func (e *Elements) complete(c byte) bool {
	if c == '}' || c == ']' || c == '"' {
		return true
	}
	next, err := e.r.Peek(1)
	if err != nil {
		return false // the next read says why
	}
	switch next[0] {
	case ',', ']', '}', ' ', '\n', '\r', '\t', '{', '[', '"':
		return true
	}
	return false
}

// ended makes an end of the stream one that comes too early.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
