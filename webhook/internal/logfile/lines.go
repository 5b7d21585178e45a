package logfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"golang.org/x/text/encoding/unicode"
)

// MaxLine bounds a line in bytes, and what is joined of several: the largest objects that etcd takes are 1.5 MiB, and a
// record may hold several of them, as may an event of the API server's audit log.
const MaxLine = 16 << 20

var (
	// ErrLong says that a line is longer than MaxLine.
	ErrLong = fmt.Errorf("longer than %d MiB", MaxLine>>20)
	// ErrTrailing says that a compressed file goes on with something else, which was not read.
	ErrTrailing = errors.New("what stands behind the compressed data was not read")
)

// physical reads lines of a bounded length as UTF-8.
type physical struct {
	r *bufio.Reader
	// trailing is set when a compressed stream ended before the file did.
	trailing func() bool
}

const bufferSize = 64 << 10

// newPhysical looks at the first bytes to learn how the text is compressed and encoded, not at a name: stdin has none.
// Several gzip members one after the other are one stream.
func newPhysical(r io.Reader) (*physical, error) {
	p := &physical{r: bufio.NewReaderSize(r, bufferSize), trailing: func() bool { return false }}
	if head, _ := p.r.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(p.r)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		m := &members{Reader: plain}
		p.r, p.trailing = bufio.NewReaderSize(m, bufferSize), func() bool { return m.trailing }
	}
	if order, utf16 := byteOrder(p.r); utf16 {
		p.r = bufio.NewReaderSize(unicode.UTF16(order, unicode.UseBOM).NewDecoder().Reader(p.r), bufferSize)
	} else if head, _ := p.r.Peek(3); bytes.Equal(head, []byte("\ufeff")) {
		_, _ = p.r.Discard(3)
	}
	return p, nil
}

// byteOrder recognizes UTF-16, as PowerShell's > writes it, by its byte order mark, or by a first character that is ASCII.
func byteOrder(r *bufio.Reader) (order unicode.Endianness, utf16 bool) {
	head, _ := r.Peek(4)
	switch {
	case len(head) < 4:
		return unicode.LittleEndian, false
	case head[0] == 0xff && head[1] == 0xfe, head[0] != 0 && head[1] == 0 && head[2] != 0 && head[3] == 0:
		return unicode.LittleEndian, true
	case head[0] == 0xfe && head[1] == 0xff, head[0] == 0 && head[1] != 0 && head[2] == 0 && head[3] != 0:
		return unicode.BigEndian, true
	}
	return unicode.LittleEndian, false
}

// members are those of a gzip file. Behind the last one may stand what is none, such as the zeros of a tape.
type members struct {
	*gzip.Reader
	read, trailing bool
}

func (m *members) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.read = m.read || n > 0
	if errors.Is(err, gzip.ErrHeader) && m.read {
		m.trailing, err = true, io.EOF
	}
	return n, err
}

// next reads one line with its end; the last need not have one. It is valid until the next call. The error is io.EOF at the
// end, and ErrLong for a line that is too long, behind which the reading goes on.
func (p *physical) next() ([]byte, error) {
	line, err := p.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return whole(line, err)
	}
	long, tooLong := bytes.Clone(line), false
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = p.r.ReadSlice('\n')
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
