package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/evictgate/evictgate/policies"
)

// The decisions of an hour are counted in the table hours, so that sums never ask the records. Those with the
// same names are one entry, with a count for each minute of the hour. An hour has up to hourParts rows: few,
// since each costs more than an entry, and so many that a busy hour is not written anew as a whole.
//
// A row is read and written whole, and who asks for evictions makes names up. So an entry does not name the pod,
// which anybody may invent: a filter of pods asks the records, which are found by it. And a row has a bounded
// size: beyond it entries tell less (see detail), and what a filter cannot tell from them it asks the records.

const (
	minute = int64(60e6) // microseconds
	hour   = 60 * minute
)

// hourCounts is a row of hours: how many decisions there were in each minute of the hour, by encoded facts.
type hourCounts struct {
	entries map[string]map[byte]uint64
	// size is about how many bytes they take.
	size int
	// least is the least detail that an entry has.
	least detail
}

func newHourCounts() *hourCounts { return &hourCounts{entries: map[string]map[byte]uint64{}} }

// detail is what an entry tells of its decisions: the greater, the less.
type detail byte

const (
	whole detail = iota
	// placeless lacks the node and the workload, by which the entries of a large drain differ.
	placeless
	// nameless has only the outcome, if that is one of ours, and whether it refused and was a dry run.
	nameless
)

// rooms are the sizes up to which a row takes new entries of a detail; the nameless are few.
type rooms [nameless]int

// hourRooms are those of a store. A drain of 1000 nodes, with 30 pods each, is told whole.
var hourRooms = rooms{whole: 512 << 10, placeless: 640 << 10}

// countsSize is about what the counts of an entry take.
const countsSize = 100

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

func (h *hourCounts) add(f string, m byte, n uint64) {
	if h.entries[f] == nil {
		h.entries[f] = map[byte]uint64{}
		h.size += len(f) + countsSize
	}
	h.entries[f][m] += n
}

// count adds a decision of a minute, in the greatest detail for which there is room.
func (h *hourCounts) count(f *facts, m byte, room rooms) {
	for d := whole; ; d++ {
		less := f.in(d)
		text := less.encode()
		if d == nameless || h.entries[text] != nil || h.size+len(text)+countsSize <= room[d] {
			h.add(text, m, 1)
			h.least = max(h.least, d)
			return
		}
	}
}

// in is the facts in less detail.
func (f *facts) in(d detail) *facts {
	if d == whole {
		return f
	}
	less := &facts{detail: d, outcome: f.outcome, dryRun: f.dryRun, refused: f.refused}
	if d == placeless {
		less.namespace, less.user, less.evictor, less.policies, less.budgets = f.namespace, f.user, f.evictor, f.policies, f.budgets
	} else if !isOurs(f.outcome) {
		less.outcome = ""
	}
	return less
}

// isOurs reports whether an outcome is one that no upload has invented.
func isOurs(o policies.Outcome) bool {
	return o == policies.Admitted || o == policies.Delayed || o == policies.Denied || o == policies.Undecided
}

// hides reports whether a row has decisions of which it does not tell whether the filter chooses them.
func (f *Filter) hides(body []byte) (bool, error) {
	if len(body) < 2 || body[0] != hourForm || f.in(detail(body[1])) == *f {
		return false, nil
	}
	hidden := false
	var d facts
	var bad error
	err := eachEntry(body, func(text string, counts *cursor) {
		counts.skipCounts()
		bad = cmp.Or(bad, d.decode(text))
		if d.detail != whole {
			told := f.in(d.detail)
			hidden = hidden || (told != *f && told.chooses(&d))
		}
	})
	return hidden, cmp.Or(bad, err)
}

// in is the filter without what an entry of a detail does not tell.
func (f Filter) in(d detail) Filter {
	if d >= placeless {
		f.Node, f.Workload = "", ""
	}
	if d >= nameless {
		f.Namespace, f.User, f.Evictor, f.Policy, f.Budget = "", "", "", "", ""
		if !isOurs(f.Outcome) {
			f.Outcome = ""
		}
	}
	return f
}

// hourForm is the first byte of a row's body; behind it stands the least detail. oldForm was written before there
// were details: its entries name the episode, the pod and the kind of the reply as well.
const (
	oldForm  = 1
	hourForm = 2
)

func (h *hourCounts) encode() []byte {
	b := append(make([]byte, 0, h.size), hourForm, byte(h.least))
	for _, f := range slices.Sorted(maps.Keys(h.entries)) {
		b = appendText(b, f)
		b = binary.AppendUvarint(b, uint64(len(h.entries[f])))
		for _, m := range slices.Sorted(maps.Keys(h.entries[f])) {
			b = binary.AppendUvarint(append(b, m), h.entries[f][m])
		}
	}
	return b
}

func decodeHour(body []byte) (*hourCounts, error) {
	h := newHourCounts()
	err := eachEntry(body, func(f string, counts *cursor) {
		for range counts.uint() {
			h.add(f, counts.byte(), counts.uint())
		}
	})
	if err == nil && body[0] == hourForm {
		h.least = detail(body[1])
	}
	return h, err
}

var errHour = errors.New("a row of hours has a form that is not known")

// eachEntry calls f with each entry's encoded facts, and where its counts begin: f must read them.
func eachEntry(body []byte, f func(facts string, counts *cursor)) error {
	var c cursor
	switch {
	case len(body) >= 1 && body[0] == oldForm:
		c.rest = string(body[1:])
	case len(body) >= 2 && body[0] == hourForm:
		c.rest = string(body[2:])
	default:
		return errHour
	}
	for c.rest != "" && !c.bad {
		f(c.text(), &c)
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
	const gone = "" // what only oldForm has
	for _, s := range []string{f.namespace, gone, gone, f.node, f.workload, f.user, f.evictor, string(f.outcome), gone} {
		b = appendText(b, s)
	}
	b = append(b, bit(f.dryRun)|bit(f.refused)<<1|byte(f.detail)<<2)
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
	var gone string
	for _, to := range []*string{&f.namespace, &gone, &gone, &f.node, &f.workload, &f.user, &f.evictor, (*string)(&f.outcome), &gone} {
		*to = c.text()
	}
	flags := c.byte()
	f.dryRun, f.refused, f.detail = flags&1 != 0, flags&2 != 0, detail(flags>>2)
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
func (s *Store) count(ctx context.Context, w writer, fresh []*entry) error {
	hours := map[int64]map[int64][]*entry{}
	for _, e := range fresh {
		at, part := floor(e.at, hour), hourPart(e.namespace)
		if hours[at] == nil {
			hours[at] = map[int64][]*entry{}
		}
		hours[at][part] = append(hours[at][part], e)
	}
	var rows [][]any
	for at, parts := range hours {
		counted, err := countedOf(ctx, w, at, parts)
		if err != nil {
			return err
		}
		for part, entries := range parts {
			h := cmp.Or(counted[part], newHourCounts())
			for _, e := range entries {
				h.count(&e.facts, byte((e.at-at)/minute), s.rooms)
			}
			rows = append(rows, []any{at, part, h.encode()})
		}
	}
	return w.put(ctx, "hours", hourColumns, 2, rows)
}

var hourColumns = []string{"at", "part", "body"}

// countedOf has what was counted before of some parts of an hour.
func countedOf(ctx context.Context, r reader, at int64, parts map[int64][]*entry) (map[int64]*hourCounts, error) {
	counted := map[int64]*hourCounts{}
	return counted, r.query(ctx, func(scan func(...any) error) error {
		var part int64
		var body []byte
		if err := scan(&part, &body); err != nil || parts[part] == nil {
			return err
		}
		var err error
		counted[part], err = decodeHour(body)
		return err
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
		if h.trim(byte((before - at) / minute)); len(h.entries) > 0 {
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
func (h *hourCounts) trim(from byte) {
	for f, minutes := range h.entries {
		maps.DeleteFunc(minutes, func(m byte, _ uint64) bool { return m < from })
		if len(minutes) == 0 {
			delete(h.entries, f)
		}
	}
}
