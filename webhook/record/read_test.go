package record

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
)

// recordLine is a record as the writer writes it.
func recordLine(t testing.TB, id string) string {
	t.Helper()
	line, err := Record{
		Version: Version, DecisionID: id, Timestamp: noon, Request: Request{Namespace: "shop", Name: "web-0"},
		Result: &policies.Decision{Outcome: policies.Admitted, Code: 200},
	}.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

// readAll tells each record by its id, and each error.
func readAll(r io.Reader) []string {
	var got []string
	for record, err := range Read(r) {
		var line *LineError
		switch {
		case errors.Is(err, ErrOtherLine):
			got = append(got, "other")
		case errors.As(err, &line):
			got = append(got, "line "+err.Error())
		case err != nil:
			got = append(got, "end: "+err.Error())
		default:
			got = append(got, record.DecisionID)
		}
	}
	return got
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func TestReadRecords(t *testing.T) {
	a, b := recordLine(t, "a"), recordLine(t, "b")
	var sorted map[string]any
	if err := json.Unmarshal([]byte(b), &sorted); err != nil {
		t.Fatal(err)
	}
	reordered, _ := json.Marshal(sorted) // as jq -S prints it
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                           {"", nil},
		"records":                           {a + b, []string{"a", "b"}},
		"no newline at the end":             {a + strings.TrimSpace(b), []string{"a", "b"}},
		"empty lines":                       {"\n" + a + "\r\n \n" + b, []string{"a", "b"}},
		"keys in another order":             {string(reordered) + "\n" + a, []string{"b", "a"}},
		"gzip":                              {zipped(a + b), []string{"a", "b"}},
		"gzip files one behind the other":   {zipped(a) + zipped(b), []string{"a", "b"}},
		"a gzip file that is cut off":       {zipped(a)[:20], []string{"end: line 1: unexpected EOF"}},
		"two bytes like gzip's":             {"\x1f\x8bno", []string{"end: gzip: unexpected EOF"}},
		"the log between":                   {"time=x level=INFO msg=serving\n" + a + `{"level":"INFO","msg":"serving"}` + "\n", []string{"other", "a", "other"}},
		"kubectl logs --prefix":             {"[pod/evictgate-1/evictgate] " + a, []string{"a"}},
		"kubectl logs --timestamps":         {"2026-11-23T12:00:00.1Z " + a, []string{"a"}},
		"a log line that quotes a record":   {`{"level":"INFO","msg":"{\"record_version\":1}"}` + "\n" + a, []string{"other", "a"}},
		"a form that is not known":          {`{"who":"knows","x":"{\"record_version\":1}"}` + "\n" + a, []string{"line 1: it may hold a decision record or an audit event, in a form that is not known", "a"}},
		"a record that is cut off":          {a[:60] + "\n" + b, []string{"line 1: the line is torn: no whole JSON object", "b"}},
		"the end of a record":               {a[60:] + b, []string{"line 1: the line is torn: no whole JSON object", "b"}},
		"two records on a line":             {strings.TrimSpace(a) + b + b, []string{"a", "b", "b"}},
		"a later version":                   {strings.Replace(a, `"record_version":1`, `"record_version":2`, 1), []string{"line 1: record version 2; this evictgate reads version 1"}},
		"a record without what it is about": {`{"record_version":1}` + "\n" + a, []string{"line 1: a record without decision_id, timestamp, request or result", "a"}},
		"a value of another type":           {strings.Replace(a, `"decision_id":"a"`, `"decision_id":7`, 1) + b, []string{"line 1: json: cannot unmarshal number into Go struct field Record.decision_id of type string", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, readAll(strings.NewReader(c.text))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.want, readAll(iotest.OneByteReader(strings.NewReader(c.text)))); diff != "" {
				t.Errorf("byte by byte: -want +got:\n%s", diff)
			}
		})
	}
}

func TestLongLines(t *testing.T) {
	a := recordLine(t, "a")
	pad := func(n int) string { // white space before a record
		return strings.Repeat(" ", n-len(a)) + a
	}
	got := readAll(strings.NewReader(pad(MaxLine) + pad(MaxLine+1) + pad(3*MaxLine) + a))
	want := []string{"a", "line 2: longer than 16 MiB", "line 3: longer than 16 MiB", "a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"line 1: longer than 16 MiB"}, readAll(strings.NewReader(strings.Repeat("x", MaxLine+1)))); diff != "" {
		t.Errorf("at the end: -want +got:\n%s", diff)
	}
}

func TestReadingFails(t *testing.T) {
	broken := iotest.TimeoutReader(io.MultiReader(strings.NewReader(recordLine(t, "a")), strings.NewReader("x")))
	if diff := cmp.Diff([]string{"a", "end: line 2: timeout"}, readAll(broken)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReadingStopsWhenAsked(t *testing.T) {
	for _, err := range Read(strings.NewReader(recordLine(t, "a") + recordLine(t, "b"))) {
		if err != nil {
			t.Fatal(err)
		}
		break // a yield after this panics
	}
}

func FuzzReadRecords(f *testing.F) {
	f.Add([]byte(recordLine(f, "a")))
	f.Add([]byte(zipped(recordLine(f, "a"))))
	f.Add([]byte("{\"record_version\":1,\n\x1f\x8b"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for record, err := range Read(bytes.NewReader(raw)) {
			if err == nil && (record.DecisionID == "" || record.Result == nil) {
				t.Fatal(fmt.Errorf("half a record: %+v", record))
			}
		}
	})
}
