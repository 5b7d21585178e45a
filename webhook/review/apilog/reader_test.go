package apilog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/webhook/record"
)

// found is what a Reader found, in short.
type found struct {
	Answers, Decisions []string
	Problems           []string
}

func readAll(t testing.TB, in io.Reader, o Options) (found, Counts, error) {
	t.Helper()
	var f found
	r, err := NewReader(in, NewParser(o))
	if err != nil {
		return f, Counts{}, err
	}
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return f, r.Counts, nil
		case err != nil:
			return f, r.Counts, err
		case e.Err != nil:
			f.Problems = append(f.Problems, fmt.Sprintf("%d: %v", e.Line, e.Err))
		case e.Kind == Decision:
			f.Decisions = append(f.Decisions, e.Record.DecisionID)
		default:
			f.Answers = append(f.Answers, e.Answer.ID)
		}
	}
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func zipped(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&out)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestALogIsRead(t *testing.T) {
	events, records := file(t, "events.jsonl"), file(t, "records.jsonl")
	want, counts, err := readAll(t, bytes.NewReader(append(append([]byte{}, events...), records...)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	lines := int64(bytes.Count(events, []byte("\n")))
	wantCounts := Counts{
		Bytes: int64(len(events) + len(records)), Lines: lines + 2, Answers: lines - 3, Decisions: 2, Collections: 1, Other: 2,
		From: counts.From, Until: counts.Until,
	}
	if diff := cmp.Diff(wantCounts, counts); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if covered := counts.Until.Sub(counts.From); covered < 30*time.Second || covered > 3*time.Minute {
		t.Errorf("the log covers %s", covered)
	}
	half := bytes.IndexByte(events[len(events)/2:], '\n') + len(events)/2
	for sentence, in := range map[string]io.Reader{
		"byte by byte":                            iotest.OneByteReader(bytes.NewReader(append(append([]byte{}, events...), records...))),
		"compressed":                              bytes.NewReader(zipped(t, append(append([]byte{}, events...), records...))),
		"compressed in members, torn in one":      bytes.NewReader(zipped(t, events[:half/2], events[half/2:], records)),
		"with carriage returns":                   strings.NewReader(strings.ReplaceAll(string(events)+string(records), "\n", "\r\n")),
		"without an end of the last line":         strings.NewReader(strings.TrimSuffix(string(events)+string(records), "\n")),
		"as lists of events":                      io.MultiReader(strings.NewReader(asList(events[:half])+asList(events[half:])), bytes.NewReader(records)),
		"with the lines of kubectl logs":          strings.NewReader(string(events) + "time=2026-11-23 level=INFO msg=serving\n[pod/evictgate-0/evictgate] " + strings.Replace(string(records), "\n", "\n2026-11-23T18:28:16Z ", 1)),
		"with empty lines and white space":        strings.NewReader("\n\n" + strings.ReplaceAll(string(events), "\n", " \n\t") + "\n" + string(records)),
		"with lines of other things between":      strings.NewReader(strings.ReplaceAll(string(events), "\n", "\n{\"kind\":\"Event\"}\n") + string(records)),
		"with the spaces that jq and jsonnet put": strings.NewReader(strings.NewReplacer(`","`, `", "`, `":"`, `": "`).Replace(string(events)) + string(records)),
	} {
		t.Run(sentence, func(t *testing.T) {
			got, c, err := readAll(t, in, Options{})
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
			if !c.From.Equal(counts.From) || !c.Until.Equal(counts.Until) {
				t.Errorf("it covers %s to %s, want %s to %s", c.From, c.Until, counts.From, counts.Until)
			}
		})
	}
}

// asList makes an EventList on one line.
func asList(lines []byte) string {
	return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` +
		strings.Join(strings.Split(strings.TrimSpace(string(lines)), "\n"), ",") + "]}\n"
}

func TestWhatCannotBeReadIsCountedAndTold(t *testing.T) {
	line := strings.TrimSpace(string(captured(t)["a admitted"]))
	for sentence, c := range map[string]struct {
		in      string
		answers int64
		want    []string
		err     string
	}{
		"a line that was cut off":           {in: line[:len(line)/2] + "\n" + line + "\n", answers: 1, want: []string{"1: the line is torn: no whole JSON object"}},
		"the end of a line":                 {in: line + "\n" + line[len(line)/2:], answers: 1, want: []string{"2: the line is torn: no whole JSON object"}},
		"two lines in one":                  {in: line + line + "\n" + line, answers: 3},
		"an event of a type of its own":     {in: strings.Replace(line, `"verb":"create"`, `"verb":7`, 1), want: []string{"1: json: cannot unmarshal number into Go struct field event.verb of type string"}},
		"an event without a time":           {in: strings.Replace(line, `"stageTimestamp"`, `"when"`, 1), want: []string{"1: the audit event has no auditID or no stageTimestamp"}},
		"an event of no pod":                {in: strings.Replace(line, `"name":"web"`, `"name":""`, 1), want: []string{"1: the audit event names no pod"}},
		"an event of another group":         {in: strings.Replace(line, `audit.k8s.io/v1`, `events.k8s.io/v1`, 1), want: []string{"1: the event is of events.k8s.io/v1, not of audit.k8s.io/v1"}},
		"a record of no decision":           {in: `{"record_version":1}`, want: []string{"1: a record without decision_id, timestamp, request or result"}},
		"a list that is none":               {in: `{"kind":"EventList","items":{"pods":"delete"}}`, want: []string{"1: read event list: json: cannot unmarshal object into Go struct field .items of type []json.RawMessage"}},
		"one event of a list":               {in: asList([]byte(line + "\n" + strings.Replace(line, `"name":"web"`, `"name":""`, 1))), answers: 1, want: []string{"1: the audit event names no pod"}},
		"a line that is too long":           {in: line + "\n{" + strings.Repeat("x", record.MaxLine) + "}\n" + line, answers: 2, want: []string{"2: longer than 16 MiB"}},
		"a compressed file that is cut off": {in: string(zipped(t, []byte(line+"\n"+line)))[:300], err: "unexpected EOF"},
		"no text at all":                    {in: strings.Repeat("\x00\xff", 1000)},
		"nothing":                           {in: ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, counts, err := readAll(t, strings.NewReader(c.in), Options{})
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got.Problems); diff != "" || counts.Answers != c.answers {
				t.Errorf("%d answers, want %d; problems -want +got:\n%s", counts.Answers, c.answers, diff)
			}
			if counts.Malformed+counts.TooLong != int64(len(c.want)) {
				t.Errorf("counts are %+v", counts)
			}
		})
	}
}

func TestAFaultOfTheFileIsToldAfterWhatWasRead(t *testing.T) {
	events := file(t, "events.jsonl")
	in := io.MultiReader(bytes.NewReader(events), iotest.ErrReader(errors.New("disk on fire")))
	_, counts, err := readAll(t, in, Options{})
	if err == nil || err.Error() != "disk on fire" || counts.Answers != int64(bytes.Count(events, []byte("\n"))-3) {
		t.Errorf("%+v %v", counts, err)
	}
	if _, err := NewReader(strings.NewReader("\x1f\x8bno gzip"), NewParser(Options{})); err == nil || !strings.HasPrefix(err.Error(), "gzip: ") {
		t.Errorf("got %v", err)
	}
}

func TestCountsOfFilesAddUp(t *testing.T) {
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	sum := Counts{Lines: 1, Answers: 1, From: at, Until: at.Add(time.Hour)}
	sum.Add(Counts{Lines: 2, Malformed: 1, From: at.Add(-time.Hour), Until: at})
	sum.Add(Counts{Lines: 4})
	if diff := cmp.Diff(Counts{Lines: 7, Answers: 1, Malformed: 1, From: at.Add(-time.Hour), Until: at.Add(time.Hour)}, sum); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestScopeHoldsForRecordsToo(t *testing.T) {
	in := append(file(t, "events.jsonl"), file(t, "records.jsonl")...)
	_, counts, err := readAll(t, bytes.NewReader(in), Options{Namespaces: []string{"nowhere"}})
	if err != nil || counts.Answers != 1 || counts.Decisions != 0 || counts.OutOfScope == 0 {
		t.Errorf("%+v %v", counts, err) // the one is of a namespace nowhere
	}
}

// BenchmarkReader reads a log of which one line in a hundred is an eviction, and one of nothing else.
func BenchmarkReader(b *testing.B) {
	others := bytes.Split(bytes.TrimSpace(file(b, "others.jsonl")), []byte("\n"))
	events := bytes.Split(bytes.TrimSpace(file(b, "events.jsonl")), []byte("\n"))
	var mixed, own bytes.Buffer
	for i := range 20_000 {
		line := others[i%len(others)]
		if i%100 == 0 {
			line = events[i/100%len(events)]
		}
		mixed.Write(append(line, '\n'))
		own.Write(append(events[i%len(events)], '\n'))
	}
	for name, log := range map[string][]byte{"1in100": mixed.Bytes(), "evictions": own.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(log)))
			for b.Loop() {
				_, counts, err := readAll(b, bytes.NewReader(log), Options{})
				if err != nil || counts.Answers == 0 || counts.Lines != 20_000 {
					b.Fatal(counts, err)
				}
			}
			b.ReportMetric(20_000*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
