package logfile

import "bytes"

// join reads an object that is printed over several lines, the first of which is l. When it turns out to be none, the other
// lines are read again, each on its own.
func (r *Reader) join(l source) bool {
	var n nesting
	if !n.add(l.text) {
		return false
	}
	text := bytes.Clone(l.text)
	var taken []source
	for n.depth > 0 {
		next, err := r.line()
		if err != nil { // it is told again when it is met again
			r.restore(taken)
			return false
		}
		next.text = bytes.Clone(next.text)
		next.joined++
		taken = append(taken, next)
		if next.err != nil || next.joined > maxJoined || len(text)+len(next.text) > MaxLine || !continues(text, next.text) || !n.add(next.text) {
			r.restore(taken)
			return false
		}
		text = append(append(text, '\n'), next.text...)
	}
	s := search{number: l.number, open: -1}
	if s.text(text, 0); s.object == nil || s.open >= 0 {
		r.restore(taken)
		return false
	}
	r.queued = append(r.queued, s.found...)
	switch {
	case s.bad:
		r.queue(Line{Number: l.number, Err: ErrTorn})
	case len(s.found) == 0:
		r.queue(Line{Number: l.number, Kind: Object, Text: s.object})
	}
	return true
}

// restore has lines read again.
func (r *Reader) restore(taken []source) { r.again = append(taken, r.again...) }

// continues reports whether a line may go on with what is printed over several lines: it begins as a part of JSON does. An
// object that begins in the first column begins anew, unless one was announced.
func continues(before, line []byte) bool {
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) == 0 {
		return true
	}
	if line[0] == '{' {
		before = bytes.TrimSpace(before)
		return bytes.IndexByte([]byte("[,:"), before[len(before)-1]) >= 0
	}
	if bytes.IndexByte([]byte(`"{}[],-0123456789`), trimmed[0]) >= 0 {
		return true
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(trimmed, []byte(word)) {
			return true
		}
	}
	return false
}

// nesting counts the brackets that are open.
type nesting struct{ depth int }

// add reads a line of JSON; it is false when the line ends within a string, which JSON's strings do not, or closes what was
// not opened.
func (n *nesting) add(line []byte) bool {
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			n.depth++
		case c == '}', c == ']':
			n.depth--
		}
	}
	return !inString && n.depth >= 0
}
