package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// line is a record of a decision about a pod of namespace shop, as serve prints it.
func line(id string) string {
	text, err := record.Record{
		Version: record.Version, DecisionID: id, Timestamp: noon, Path: "eviction",
		Request: record.Request{Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin"}},
		Result:  &policies.Decision{Outcome: policies.Admitted, Code: 200}, Input: json.RawMessage("{}"),
	}.AppendJSON(nil)
	if err != nil {
		panic(err) // it is written down
	}
	return string(text) + "\n"
}

func elsewhere(id string) string { return strings.Replace(line(id), `"shop"`, `"batch"`, 1) }

const (
	torn   = `{"record_version":1,"decision_id":"x` + "\n"
	newer  = `{"record_version":9,"decision_id":"x"}` + "\n"
	log    = "level=INFO msg=serving\n"
	noJSON = "the line is torn: no whole JSON object"
)

// notes are what a user is told.
type notes []string

func (n *notes) note(format string, args ...any) { *n = append(*n, fmt.Sprintf(format, args...)) }

// in writes a file and gives its name, which is "records" in what is told.
func in(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "records")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// told are notes without the directories of files.
func (n notes) told() []string {
	var list []string
	for _, text := range n {
		list = append(list, text[strings.LastIndex(text, "/records")+1:])
	}
	return list
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func many(n int, text string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = text
	}
	return list
}

// lineCases are files, with the records in them and what is told of each kind of reading.
var lineCases = map[string]struct {
	lines []string
	ids   []string
	// loaded is told when the file is loaded as a whole, streamed when it is read as a stream.
	loaded, streamed []string
	// err ends the loading of a file as a whole.
	err string
}{
	"records alone":    {lines: []string{line("a"), line("b")}, ids: []string{"a", "b"}},
	"records in a log": {lines: []string{log, line("a"), log, log, line("b")}, ids: []string{"a", "b"}},
	"a line that was torn": {
		lines: []string{line("a"), torn, line("b")}, ids: []string{"a", "b"},
		loaded:   []string{"records:2: skipped: " + noJSON, "records: 1 line skipped that should be a record, 2 read"},
		streamed: []string{"records:2: skipped: " + noJSON, "records: 1 line skipped that should be a record"},
	},
	"records of a newer version": {
		lines: []string{newer, log, newer},
		loaded: []string{
			"records:1: skipped: record version 9; this evictgate reads version 1", "records:3: skipped: record version 9; this evictgate reads version 1",
			"records: 2 lines skipped that should be records, 0 read",
		},
		err: "read records: no record of a decision in 3 lines of ",
		streamed: []string{
			"records:1: skipped: record version 9; this evictgate reads version 1", "records:3: skipped: record version 9; this evictgate reads version 1",
			"records: 2 lines skipped that should be records",
		},
	},
	"no record at all": {lines: []string{log}, err: "read records: no record of a decision in 1 line of "},
	"nothing":          {loaded: []string{"records: no record of a decision in 0 lines"}},
	"so many torn lines that not each is told": {
		lines: append(many(maxTold+2, torn), line("a")), ids: []string{"a"},
		loaded:   append(numbered(maxTold), fmt.Sprintf("records: %d lines skipped that should be records, 1 read", maxTold+2)),
		streamed: append(numbered(maxTold), fmt.Sprintf("records: %d lines skipped that should be records", maxTold+2)),
	},
}

func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("records:%d: skipped: %s", i+1, noJSON)
	}
	return list
}

// adder keeps what it is given; it has no place for more than some batches.
type adder struct {
	ids     []string
	batches []int
	most    int
}

var errFull = errors.New("the disk is full")

func (a *adder) Add(_ context.Context, records []record.Record) (store.Added, error) {
	if a.most > 0 && len(a.batches) == a.most {
		return store.Added{}, errFull
	}
	a.batches = append(a.batches, len(records))
	for _, r := range records {
		a.ids = append(a.ids, r.DecisionID)
	}
	return store.Added{New: len(records)}, nil
}

func TestFilesAreLoaded(t *testing.T) {
	for name, tt := range lineCases {
		t.Run(name, func(t *testing.T) {
			for what, text := range map[string]string{"plain": strings.Join(tt.lines, ""), "compressed": zipped(t, strings.Join(tt.lines, ""))} {
				var to adder
				var n notes
				file := in(t, text)
				if err := Load(t.Context(), &to, []string{file}, n.note); (err == nil) != (tt.err == "") || (err != nil && err.Error() != tt.err+file) {
					t.Errorf("%s: %v", what, err)
				}
				if diff := cmp.Diff(tt.ids, to.ids); diff != "" {
					t.Errorf("%s: records -want +got:\n%s", what, diff)
				}
				if diff := cmp.Diff(tt.loaded, n.told()); diff != "" {
					t.Errorf("%s: notes -want +got:\n%s", what, diff)
				}
			}
		})
	}
}

func TestFilesAreStreamed(t *testing.T) {
	for name, tt := range lineCases {
		t.Run(name, func(t *testing.T) {
			var n notes
			s, err := Open(t.Context(), []string{in(t, tt.lines...)}, store.Filter{}, n.note)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if diff := cmp.Diff(tt.ids, idsOf(t, s)); diff != "" {
				t.Errorf("records -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tt.streamed, n.told()); diff != "" {
				t.Errorf("notes -want +got:\n%s", diff)
			}
		})
	}
}

func idsOf(t *testing.T, s *Source) []string {
	t.Helper()
	var ids []string
	for r, err := range s.Records {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.DecisionID)
	}
	return ids
}

// A large file is added part by part; no record is lost or told twice between them.
func TestALargeFileIsLoadedInParts(t *testing.T) {
	var lines, ids []string
	for i := range 2*atOnce + 1 {
		ids = append(ids, fmt.Sprintf("d%d", i))
		lines = append(lines, line(ids[i]))
	}
	var to adder
	if err := Load(t.Context(), &to, []string{in(t, lines...)}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{atOnce, atOnce, 1}, to.batches); diff != "" {
		t.Errorf("parts -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(ids, to.ids); diff != "" {
		t.Errorf("records -want +got:\n%s", diff)
	}
	for most := range 2 {
		name := in(t, lines...)
		if err := Load(t.Context(), &adder{most: most + 1}, []string{name}, nil); !errors.Is(err, errFull) || err.Error() != "read records: "+name+": "+errFull.Error() {
			t.Errorf("a store that takes %d parts: %v", most+1, err)
		}
	}
}

func TestAStoreIsLoaded(t *testing.T) {
	var n notes
	s, err := Store(t.Context(), []string{in(t, line("a"), torn), in(t, line("b"), line("a"))}, n.note)
	if err != nil {
		t.Fatal(err)
	}
	source, err := Stored(t.Context(), s, store.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if diff := cmp.Diff([]string{"a", "b"}, idsOf(t, source)); diff != "" {
		t.Errorf("records -want +got:\n%s", diff)
	}
	if done := []float64{source.Done(0), source.Done(1), source.Done(2)}; !cmp.Equal(done, []float64{0, 0.5, 1}) {
		t.Errorf("the parts that are done are %v", done)
	}
	if len(n) != 2 {
		t.Errorf("notes: %q", n)
	}
}

// Nothing is chosen: the part that is done is a number all the same.
func TestAStoreWithoutRecords(t *testing.T) {
	s, err := Store(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := Stored(t.Context(), s, store.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if ids := idsOf(t, source); ids != nil || source.Done(0) != 0 {
		t.Errorf("records %q, done %v", ids, source.Done(0))
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	gone, zip := filepath.Join(dir, "gone"), in(t, "\x1f\x8bno gzip")
	for name, tt := range map[string]struct{ file, store, stream string }{
		"one that is not there": {gone, "read records: open " + gone + ": no such file or directory", "--from: open " + gone + ": no such file or directory"},
		"a directory":           {dir, "read records: " + dir + ": line 1: read " + dir + ": is a directory", "read " + dir + ": line 1: read " + dir + ": is a directory"},
		"one that is no gzip":   {zip, "read records: " + zip + ": gzip: ", "read " + zip + ": gzip: "},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Store(t.Context(), []string{in(t, line("a")), tt.file}, nil); err == nil || !strings.HasPrefix(err.Error(), tt.store) {
				t.Errorf("a store %v, error %v", s, err)
			}
			s, err := Open(t.Context(), []string{in(t, line("a")), tt.file}, store.Filter{}, nil)
			var ids []string
			if err == nil {
				defer s.Close()
				for r, failed := range s.Records {
					if err = failed; err == nil {
						ids = append(ids, r.DecisionID)
					}
				}
				if !cmp.Equal(ids, []string{"a"}) {
					t.Errorf("before the fault there are %q", ids)
				}
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.stream) {
				t.Errorf("a stream: %v", err)
			}
		})
	}
}

// Files are read one after the other, what a filter chooses of them, until nobody wants more.
func TestAStreamOfFiles(t *testing.T) {
	names := []string{in(t, line("a"), elsewhere("b"), line("c")), in(t, elsewhere("d"), line("e"))}
	for name, tt := range map[string]struct {
		filter store.Filter
		want   []string
	}{
		"all":                      {store.Filter{}, []string{"a", "b", "c", "d", "e"}},
		"of a namespace":           {store.Filter{Namespace: "batch"}, []string{"b", "d"}},
		"of a time that is over":   {store.Filter{Until: noon}, nil},
		"of a time that began now": {store.Filter{Since: noon}, []string{"a", "b", "c", "d", "e"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), names, tt.filter, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if diff := cmp.Diff(tt.want, idsOf(t, s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if s.Done(0) != 1 {
				t.Errorf("at the end %v is done", s.Done(0))
			}
		})
	}
	s, err := Open(t.Context(), names, store.Filter{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if done := s.Done(0); done != 0 {
		t.Errorf("at the beginning %v is done", done)
	}
	var ids []string
	for r, err := range s.Records {
		if ids = append(ids, r.DecisionID); err != nil || len(ids) == 2 {
			break
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, ids); diff != "" {
		t.Errorf("until nobody wants more -want +got:\n%s", diff)
	}
	if done := s.Done(0); done <= 0 || done >= 1 {
		t.Errorf("in between %v is done", done)
	}
}

// Where the size of one file is not known, nobody is told a part.
func TestThePartOfAPipeIsNotKnown(t *testing.T) {
	s, err := Open(t.Context(), []string{in(t, line("a")), os.DevNull}, store.Filter{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ids := idsOf(t, s); !cmp.Equal(ids, []string{"a"}) || s.Done(0) != 0 {
		t.Errorf("records %q, done %v", ids, s.Done(0))
	}
}

// The end of the context ends the loading of a store, also while a pipe says nothing.
func TestLoadingEndsWithItsContext(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = write.Close() }()
	defer func() { _ = read.Close() }()
	pipe := fmt.Sprintf("/dev/fd/%d", read.Fd())
	if _, err := os.Stat(pipe); err != nil {
		t.Skip("a pipe has no name here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Store(ctx, []string{pipe}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
