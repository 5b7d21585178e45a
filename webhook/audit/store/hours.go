package store

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
)

// The decisions of an hour are counted in the table hours, so that sums never ask the records. The retries
// of a pod have the same facts: they are one entry, with a count for each minute of the hour. An hour has up
// to hourParts rows: few, since each costs more than an entry, and so many that a busy hour is not written
// anew as a whole.

const (
	minute = int64(60e6) // microseconds
	hour   = 60 * minute
)

// hourCounts has the encoded facts, and how many decisions there were in each minute of the hour.
type hourCounts map[string]map[byte]uint64

// hourParts is a part of the form: another number is another version of the store.
const hourParts = 16

// hourPart is the row that has a namespace.
func hourPart(namespace string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace))
	return int64(h.Sum32() % hourParts)
}

func floor(at, step int64) int64 {
	rest := at % step
	if rest < 0 {
		rest += step
	}
	return at - rest
}

func (h hourCounts) add(f string, m byte, n uint64) {
	if h[f] == nil {
		h[f] = map[byte]uint64{}
	}
	h[f][m] += n
}

// hourForm is the first byte of a row's body.
const hourForm = 1

func (h hourCounts) encode() []byte {
	b := []byte{hourForm}
	for _, f := range slices.Sorted(maps.Keys(h)) {
		b = appendText(b, f)
		b = binary.AppendUvarint(b, uint64(len(h[f])))
		for _, m := range slices.Sorted(maps.Keys(h[f])) {
			b = binary.AppendUvarint(append(b, m), h[f][m])
		}
	}
	return b
}

func decodeHour(body []byte) (hourCounts, error) {
	h := hourCounts{}
	err := eachEntry(body, func(f string, counts *cursor) {
		for range counts.uint() {
			h.add(f, counts.byte(), counts.uint())
		}
	})
	return h, err
}

var errHour = errors.New("a row of hours has a form that is not known")

// eachEntry calls f with each entry's encoded facts, and where its counts begin: f must read them.
func eachEntry(body []byte, f func(facts string, counts *cursor)) error {
	if len(body) == 0 || body[0] != hourForm {
		return errHour
	}
	c := &cursor{rest: string(body[1:])}
	for c.rest != "" && !c.bad {
		f(c.text(), c)
	}
	if c.bad {
		return errHour
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (f *facts) encode() string {
	var b []byte
	for _, s := range []string{f.namespace, f.episode, f.pod, f.node, f.workload, f.user, f.evictor, string(f.outcome), string(f.kind)} {
		b = appendText(b, s)
	}
	b = append(b, bit(f.dryRun)|bit(f.refused)<<1)
	b = binary.AppendUvarint(b, uint64(len(f.policies)))
	for _, p := range f.policies {
		b = binary.AppendUvarint(appendText(b, p.policy), uint64(p.did))
	}
	b = binary.AppendUvarint(b, uint64(len(f.budgets)))
	for _, name := range f.budgets {
		b = appendText(b, name)
	}
	return string(b)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decode reads what encode wrote, in place of what was there.
func (f *facts) decode(encoded string) error {
	c := cursor{rest: encoded}
	for _, to := range []*string{&f.namespace, &f.episode, &f.pod, &f.node, &f.workload, &f.user, &f.evictor, (*string)(&f.outcome), (*string)(&f.kind)} {
		*to = c.text()
	}
	flags := c.byte()
	f.dryRun, f.refused = flags&1 != 0, flags&2 != 0
	f.policies, f.budgets = f.policies[:0], f.budgets[:0]
	for range c.length() {
		f.policies = append(f.policies, part{c.text(), effect(c.uint())})
	}
	for range c.length() {
		f.budgets = append(f.budgets, c.text())
	}
	if c.bad {
		return errHour
	}
	return nil
}

// cursor reads what is encoded; bad when it ends too early. Its texts are parts of the whole.
type cursor struct {
	rest string
	bad  bool
}

func (c *cursor) byte() byte {
	if c.rest == "" {
		c.bad = true
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b
}

func (c *cursor) uint() uint64 {
	if c.rest != "" && c.rest[0] < 0x80 { // as most are
		n := uint64(c.rest[0])
		c.rest = c.rest[1:]
		return n
	}
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b := c.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	c.bad = true
	return 0
}

// length is a number of things that follow, each at least a byte.
func (c *cursor) length() int {
	n := c.uint()
	if n > uint64(len(c.rest)) {
		c.bad, c.rest = true, ""
		return 0
	}
	return int(n)
}

// skipCounts goes on to the next entry.
func (c *cursor) skipCounts() {
	for range c.uint() {
		c.byte()
		c.uint()
	}
}

func (c *cursor) text() string {
	n := c.length()
	s := c.rest[:n]
	c.rest = c.rest[n:]
	return s
}

// count adds new records to their hours.
func count(ctx context.Context, w writer, fresh []*entry) error {
	hours := map[int64]map[int64]hourCounts{}
	for _, e := range fresh {
		at, part := floor(e.at, hour), hourPart(e.namespace)
		if hours[at] == nil {
			hours[at] = map[int64]hourCounts{}
		}
		if hours[at][part] == nil {
			hours[at][part] = hourCounts{}
		}
		hours[at][part].add(e.encode(), byte((e.at-at)/minute), 1)
	}
	var rows [][]any
	for at, parts := range hours {
		if err := addHour(ctx, w, at, parts); err != nil {
			return err
		}
		for part, h := range parts {
			rows = append(rows, []any{at, part, h.encode()})
		}
	}
	return w.put(ctx, "hours", hourColumns, 2, rows)
}

var hourColumns = []string{"at", "part", "body"}

// addHour adds to some parts of an hour what was counted before.
func addHour(ctx context.Context, r reader, at int64, parts map[int64]hourCounts) error {
	return r.query(ctx, func(scan func(...any) error) error {
		var part int64
		var body []byte
		if err := scan(&part, &body); err != nil || parts[part] == nil {
			return err
		}
		return eachEntry(body, func(f string, c *cursor) {
			for range c.uint() {
				parts[part].add(f, c.byte(), c.uint())
			}
		})
	}, "SELECT part, body FROM hours WHERE at = $1", at)
}

// trim takes the minutes before a time out of the hour in which it is.
func trim(ctx context.Context, w writer, before int64) error {
	at := floor(before, hour)
	var rows [][]any
	err := w.query(ctx, func(scan func(...any) error) error {
		var part int64
		var body []byte
		if err := scan(&part, &body); err != nil {
			return err
		}
		h, err := decodeHour(body)
		if h.trim(byte((before - at) / minute)); len(h) > 0 {
			rows = append(rows, []any{at, part, h.encode()})
		}
		return err
	}, "SELECT part, body FROM hours WHERE at = $1", at)
	if err != nil {
		return err
	}
	if _, err := w.exec(ctx, "DELETE FROM hours WHERE at = $1", at); err != nil {
		return err
	}
	return w.put(ctx, "hours", hourColumns, 2, rows)
}

// trim leaves the minutes from one on.
func (h hourCounts) trim(from byte) {
	for f, minutes := range h {
		maps.DeleteFunc(minutes, func(m byte, _ uint64) bool { return m < from })
		if len(minutes) == 0 {
			delete(h, f)
		}
	}
}
