package completeness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func after(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

// decision is a line as serve prints it.
func decision(id string, at time.Time) string {
	line, err := record.Record{
		Version: record.Version, DecisionID: id, Timestamp: at, Path: "eviction",
		Request: record.Request{Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin"}},
		Result:  &policies.Decision{Outcome: policies.Admitted, Code: 200}, Input: json.RawMessage("{}"),
	}.AppendJSON(nil)
	if err != nil {
		panic(err) // it is written down
	}
	return string(line) + "\n"
}

// answer is a line of the audit log: how the API server answered an eviction. The annotation is a key and its value.
func answer(id string, at time.Time, annotation ...string) string {
	annotations := map[string]string{}
	if len(annotation) == 2 {
		annotations[annotation[0]] = annotation[1]
	}
	line, err := json.Marshal(map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": id, "stage": "ResponseComplete", "verb": "create",
		"user": map[string]any{"username": "admin"}, "stageTimestamp": at.Format(time.RFC3339Nano),
		"objectRef":      map[string]any{"resource": "pods", "subresource": "eviction", "namespace": "shop", "name": "web-0"},
		"responseStatus": map[string]any{"code": 201}, "annotations": annotations,
	})
	if err != nil {
		panic(err) // it is written down
	}
	return string(line) + "\n"
}

// decided is an answer that names its decision.
func decided(id, review string, at time.Time) string {
	return answer(id, at, "evictions.evictgate.dev/review-uid", review)
}

// other is an audit event that does not concern us, but shows that the log covers its time.
func other(at time.Time) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"x","stage":"ResponseComplete","verb":"get","stageTimestamp":"` + at.Format(time.RFC3339Nano) + `"}` + "\n"
}

func memory(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), "sqlite::memory:", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func file(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lines.jsonl")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func imported(t *testing.T, to Store, names ...string) Report {
	t.Helper()
	r, err := Import(t.Context(), to, names, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found is a report in numbers and ids.
type found struct {
	Decisions, Answers, Matched    int
	WithoutAnswer, WithoutDecision []string
	NotCompared                    NotCompared
	NotSeen                        int
	Found                          bool
}

func foundIn(r Report) found {
	c := r.Completeness
	f := found{Decisions: c.Decisions, Answers: c.Answers, Matched: c.Matched, NotCompared: r.NotCompared, NotSeen: r.NotSeen(), Found: r.Found()}
	for _, row := range c.WithoutAnswer {
		f.WithoutAnswer = append(f.WithoutAnswer, row.ID)
	}
	for _, a := range c.WithoutDecision {
		id, _, _ := strings.Cut(a.ID, "@")
		f.WithoutDecision = append(f.WithoutDecision, id)
	}
	if len(f.WithoutAnswer) != c.MissingAnswers || len(f.WithoutDecision) != c.MissingDecisions {
		f.WithoutAnswer = append(f.WithoutAnswer, fmt.Sprintf("but counted are %d and %d", c.MissingAnswers, c.MissingDecisions))
	}
	return f
}

// What lacks its counterpart is missing only in the time that both the decisions and the audit log cover.
func TestWhatIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		lines        []string
		since, until time.Time
		want         found
	}{
		"nothing at all": {},
		"each has the other": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decision("d1", after(1)), decided("a1", "d1", after(1))},
			want:  found{Decisions: 2, Answers: 2, Matched: 2},
		},
		"a decision without an answer": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decision("d1", after(1)), other(after(2))},
			want:  found{Decisions: 2, Answers: 1, Matched: 1, WithoutAnswer: []string{"d1"}, Found: true},
		},
		"an answer without its decision": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decided("a1", "lost", after(1))},
			want:  found{Decisions: 1, Answers: 2, Matched: 1, WithoutDecision: []string{"a1"}, Found: true},
		},
		"two answers to one decision": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decided("a1", "d0", after(1))},
			want:  found{Decisions: 1, Answers: 2, Matched: 1, WithoutDecision: []string{"a1"}, Found: true},
		},
		"an answer from before the decisions were kept": {
			lines: []string{decided("a0", "early", after(0)), decision("d1", after(1)), decided("a1", "d1", after(1))},
			want:  found{Decisions: 1, Answers: 1, Matched: 1, NotCompared: NotCompared{Answers: 1}},
		},
		"a decision from before the audit log": {
			lines: []string{decision("d0", after(0)), decision("d1", after(1)), decided("a1", "d1", after(1))},
			want:  found{Decisions: 1, Answers: 1, Matched: 1, NotCompared: NotCompared{Decisions: 1}},
		},
		"a decision that is not answered yet": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decision("d1", after(1))},
			want:  found{Decisions: 1, Answers: 1, Matched: 1, NotCompared: NotCompared{Decisions: 1}},
		},
		"a decision at the very end of the audit log": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decision("d1", after(1)), other(after(1))},
			want:  found{Decisions: 2, Answers: 1, Matched: 1, WithoutAnswer: []string{"d1"}, Found: true},
		},
		"only decisions": {
			lines: []string{decision("d0", after(0)), decision("d1", after(1))},
			want:  found{NotCompared: NotCompared{Decisions: 2}},
		},
		"only answers": {
			lines: []string{decided("a0", "d0", after(0))},
			want:  found{NotCompared: NotCompared{Answers: 1}},
		},
		"times that do not meet": {
			lines: []string{decided("a0", "d0", after(0)), decision("d9", after(9))},
			want:  found{NotCompared: NotCompared{Decisions: 1, Answers: 1}},
		},
		"since a time": {
			lines: []string{decision("d0", after(0)), other(after(0)), decision("d5", after(5)), decided("a5", "d5", after(5))}, since: after(3),
			want: found{Decisions: 1, Answers: 1, Matched: 1},
		},
		"until a time": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), decision("d5", after(5)), other(after(6))}, until: after(3),
			want: found{Decisions: 1, Answers: 1, Matched: 1},
		},
		"an eviction that failed open": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), answer("a1", after(1), "failed-open.validating.webhook.admission.k8s.io/round_0_index_0", "evictions.evictgate.dev")},
			want:  found{Decisions: 1, Answers: 1, Matched: 1, NotSeen: 1, Found: true},
		},
		"an eviction that nobody saw": {
			lines: []string{decision("d0", after(0)), decided("a0", "d0", after(0)), answer("a1", after(1))},
			want:  found{Decisions: 1, Answers: 1, Matched: 1, NotSeen: 1, Found: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := memory(t)
			r := Report{}
			if len(tt.lines) > 0 {
				r = imported(t, in, file(t, tt.lines...))
			}
			if err := r.Compare(t.Context(), in, tt.since, tt.until); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, foundIn(r)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWhatWasReadIsTold(t *testing.T) {
	to := memory(t)
	first := file(t, decision("d0", after(0)), "level=INFO msg=serving\n", decided("a0", "d0", after(0)))
	second := file(t, decision("d0", after(0)), `{"torn`+"\n", decided("a1", "d1", after(1)), `{"record_version":1}`+"\n")
	got := imported(t, to, first, second)
	for i, f := range got.Files { // the bytes are counted by a test of the reader
		got.Read.Bytes -= f.Bytes
		got.Files[i].Bytes = 0
	}
	want := Report{
		Files: []File{
			{Name: first, Counts: apilog.Counts{Lines: 3, Answers: 1, Decisions: 1, Other: 1, From: after(0), Until: after(0)}},
			{Name: second, Counts: apilog.Counts{Lines: 4, Answers: 1, Decisions: 1, Malformed: 2, From: after(1), Until: after(1)}},
		},
		Read:      apilog.Counts{Lines: 7, Answers: 2, Decisions: 2, Other: 1, Malformed: 2, From: after(0), Until: after(1)},
		Decisions: Count{New: 1, Known: 1}, Answers: Count{New: 2},
		Problems: []string{second + ":2: the line is torn: no whole JSON object", second + ":4: a record without decision_id, timestamp, request or result"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	lines := []string{decision("d0", after(0))}
	for range maxProblems + 5 {
		lines = append(lines, "{\n")
	}
	r := imported(t, memory(t), file(t, lines...))
	if len(r.Problems) != maxProblems || r.Read.Malformed != maxProblems+5 {
		t.Errorf("%d of %d problems are told", len(r.Problems), r.Read.Malformed)
	}
}

// counting counts the transactions of a store, and refuses those after some.
type counting struct {
	*store.Store
	most, largest, made int
}

var errFull = errors.New("the disk is full")

func (c *counting) Add(ctx context.Context, records []record.Record) (store.Added, error) {
	if c.largest = max(c.largest, len(records)); len(records) > 0 {
		c.made++
	}
	if c.most > 0 && c.made > c.most {
		return store.Added{}, errFull
	}
	return c.Store.Add(ctx, records)
}

// A large file is stored part by part, and nothing of it is lost between them.
func TestALargeFileIsStoredInParts(t *testing.T) {
	var lines []string
	for i := range 2*atOnce + 1 {
		lines = append(lines, decision(fmt.Sprintf("d%d", i), after(i)))
	}
	name := file(t, lines...)
	to := &counting{Store: memory(t)}
	if r := imported(t, to, name); r.Decisions.New != 2*atOnce+1 || to.made != 3 || to.largest != atOnce {
		t.Errorf("%d decisions in %d parts, the largest of %d", r.Decisions.New, to.made, to.largest)
	}
	// What was stored before a fault is told, and is stored.
	to = &counting{Store: memory(t), most: 1}
	r, err := Import(t.Context(), to, []string{name}, Options{})
	if !errors.Is(err, errFull) || err.Error() != "import "+name+": "+errFull.Error() || r.Decisions.New != atOnce {
		t.Errorf("%v after %d decisions", err, r.Decisions.New)
	}
	if n, err := to.Count(t.Context(), store.Filter{}); err != nil || n != atOnce {
		t.Errorf("%d decisions are stored, %v", n, err)
	}
}

func TestFilesThatCannotBeImported(t *testing.T) {
	dir := t.TempDir()
	text := file(t, "level=INFO msg=serving\n")
	zip := file(t, "\x1f\x8bno gzip")
	for name, tt := range map[string]struct{ file, want string }{
		"one that is not there": {filepath.Join(dir, "gone"), "open " + filepath.Join(dir, "gone") + ": no such file or directory"},
		"a directory":           {dir, "read " + dir + ": is a directory"},
		"one of other lines":    {text, "it has neither audit events of kube-apiserver (JSON lines of audit.k8s.io/v1) nor records as evictgate serve prints them"},
		"one that is no gzip":   {zip, "gzip: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(t.Context(), memory(t), []string{tt.file}, Options{})
			if err == nil || !strings.HasPrefix(err.Error(), "import "+tt.file+": "+tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
	for name, lines := range map[string][]string{
		"an empty file":                        nil,
		"an audit log without an eviction":     {other(after(0))},
		"a log of evictions that are not ours": {strings.ReplaceAll(decided("a0", "d0", after(0)), `"shop"`, `"kube-system"`)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Import(t.Context(), memory(t), []string{file(t, lines...)}, Options{Events: apilog.Options{Namespaces: []string{"shop"}}}); err != nil {
				t.Error(err)
			}
		})
	}
}

// The end of the context ends an import, also while a pipe says nothing.
func TestAnImportEndsWithItsContext(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = write.Close() }()
	defer func() { _ = read.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	pipe := fmt.Sprintf("/dev/fd/%d", read.Fd())
	if _, err := os.Stat(pipe); err != nil {
		t.Skip("a pipe has no name here")
	}
	if _, err := Import(ctx, memory(t), []string{pipe}, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
