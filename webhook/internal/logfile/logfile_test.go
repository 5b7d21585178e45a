package logfile

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
)

const (
	event  = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","objectRef":{"resource":"pods","name":"web-0","subresource":"eviction"},"responseStatus":{"message":"a \"text\" with {braces"}}`
	record = `{"record_version":1,"decision_id":"d","result":{"message":"needs 2 } of 3"}}`
)

// read lists what is found: the text of what is known, "object" and "other", or the number of a line and its error.
func read(t testing.TB, from io.Reader) (list []string) {
	t.Helper()
	r, err := New(from)
	if err != nil {
		return []string{"end: " + err.Error()}
	}
	for {
		l, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			return append(list, "end: "+err.Error())
		case l.Err != nil:
			list = append(list, fmt.Sprintf("%d: %v", l.Number, l.Err))
		case l.Kind == Known:
			var compact bytes.Buffer
			if err := json.Compact(&compact, l.Text); err != nil { // it only begins like one
				compact.Write(l.Text)
			}
			list = append(list, compact.String())
		default:
			list = append(list, map[Kind]string{Object: "object", Other: "other"}[l.Kind])
		}
	}
}

func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it is a text
	}
	return string(text)
}

func pretty(s string) string {
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(s), "", "  "); err != nil {
		panic(err) // it is written down
	}
	return out.String()
}

func zipped(s string) string {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func utf16(order unicode.Endianness, mark unicode.BOMPolicy, s string) string {
	text, err := unicode.UTF16(order, mark).NewEncoder().String(s)
	if err != nil {
		panic(err) // it is text
	}
	return text
}

// carriers write lines as what carries logs does: whatever the lines hold, or (wrappers) only where each is a whole object.
var carriers = map[string]func(lines ...string) string{
	"as written":       func(lines ...string) string { return strings.Join(lines, "\n") },
	"carriage returns": func(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" },
	"a byte order mark": func(lines ...string) string {
		return "\ufeff" + strings.Join(lines, "\n")
	},
	"UTF-16 of PowerShell": func(lines ...string) string {
		return utf16(unicode.LittleEndian, unicode.UseBOM, strings.Join(lines, "\r\n"))
	},
	"UTF-16 without a mark": func(lines ...string) string {
		return utf16(unicode.BigEndian, unicode.IgnoreBOM, strings.Join(lines, "\n"))
	},
	"oc adm node-logs":                prefixed("master-0.example.com "),
	"kubectl logs":                    prefixed("[pod/evictgate-0/evictgate] 2026-11-30T06:42:31.1Z "),
	"aws logs tail":                   prefixed("2026-11-29T10:00:00.123000+00:00 kube-apiserver-audit-1 "),
	"logcli":                          prefixed(`2026-11-30T06:43:31Z {app="evictgate", pod="evictgate-1"} `),
	"an object in front":              prefixed(`{"ts":1} `),
	"syslog":                          prefixed("<13>Nov 30 06:43:31 node-1 kube-apiserver[1]: "),
	"the container runtime interface": prefixed("2026-11-30T06:42:31.123456789Z stdout F "),
	"Docker":                          member(`{"log":`, `,"stream":"stdout","time":"2026-11-30T06:42:31Z"}`, "\n"),
	"Docker through a collector":      member(`{"log":`, `,"stream":"stdout","time":"2026-11-30T06:42:31Z"}`, ""),
	"Azure":                           member(`{"category":"kube-audit","properties":{"log":`, `}}`, "\n"),
	"Azure's records in an array": func(lines ...string) string {
		return `{"records":[` + strings.Join(strings.Split(strings.TrimSpace(member(`{"properties":{"log":`, `}}`, "")(lines...)), "\n"), ",") + `]}`
	},
	"CloudWatch": member(`{"@timestamp":"2026-11-30","@message":`, `}`, ""),
	"aws logs filter-log-events": func(lines ...string) string {
		return pretty(`{"events":[` + strings.Join(strings.Split(strings.TrimSpace(member(`{"timestamp":1,"message":`, `}`, "")(lines...)), "\n"), ",") + `],"searchedLogStreams":[]}`)
	},
	"Loki": member(`{"labels":{"app":"evictgate"},"line":`, `,"timestamp":"x"}`, ""),
}

var wrappers = map[string]func(lines ...string) string{
	"gzip":            func(lines ...string) string { return zipped(strings.Join(lines, "\n")) },
	"gzip in members": func(lines ...string) string { return each(lines, func(s string) string { return zipped(s + "\n") }) },
	"its parts": func(lines ...string) string {
		return each(lines, func(s string) string {
			const at = "2026-11-30T06:42:31.123456789Z stdout "
			return at + "P " + s[:20] + "\n2026-11-30T06:42:31Z stderr F time=x\n" + at + "P " + s[20:50] + "\n" + at + "F " + s[50:] + "\n"
		})
	},
	"Docker's parts": func(lines ...string) string {
		return each(lines, func(s string) string {
			const end = `,"stream":"stdout","time":"2026-11-30T06:42:31Z"}` + "\n"
			return `{"log":` + quoted(s[:30]) + end + `{"log":"x\n","stream":"stderr","time":"x"}` + "\n" + `{"log":` + quoted(s[30:60]) + end + `{"log":` + quoted(s[60:]+"\n") + end
		})
	},
	"Elasticsearch": func(lines ...string) string {
		return each(lines, func(s string) string { return `{"_index":"audit","_source":` + s + "}\n" })
	},
	"Fluent Bit": func(lines ...string) string {
		return each(lines, func(s string) string {
			return `{"kubernetes":{"pod_name":"evictgate-1","annotations":{"a":` + quoted(record) + `}},"log_processed":` + s + "}\n"
		})
	},
	"a program's own key": func(lines ...string) string {
		return each(lines, func(s string) string { return `{"audit":` + s + "}\n" })
	},
	"an array":          func(lines ...string) string { return "[" + strings.Join(lines, ",") + "]" },
	"an array of lines": func(lines ...string) string { return "[\n" + strings.Join(lines, ",\n") + "\n]\n" },
	"an array, printed": func(lines ...string) string { return pretty("[" + strings.Join(lines, ",") + "]") },
	"printed":           func(lines ...string) string { return each(lines, func(s string) string { return pretty(s) + "\n" }) },
	"printed, with prefixes": func(lines ...string) string {
		return each(lines, func(s string) string { return pretty(`{"_source":`+s+`}`) + "\n" })
	},
	"several on a line": func(lines ...string) string { return strings.Join(lines, "") + "\n" },
}

func each(lines []string, f func(string) string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(f(l))
	}
	return b.String()
}

func prefixed(prefix string) func(...string) string {
	return func(lines ...string) string { return each(lines, func(s string) string { return prefix + s + "\n" }) }
}

// member has a line as a text between begin and end, itself with an end.
func member(begin, end, newline string) func(...string) string {
	return func(lines ...string) string {
		return each(lines, func(s string) string { return begin + quoted(s+newline) + end + "\n" })
	}
}

func known(list []string) (found []string) {
	for _, s := range list {
		if s != "other" && s != "object" {
			found = append(found, s)
		}
	}
	return found
}

func TestWhatCarriesLogs(t *testing.T) {
	want := []string{event, record, event}
	for _, all := range []map[string]func(...string) string{carriers, wrappers} {
		for name, carry := range all {
			t.Run(name, func(t *testing.T) {
				text := carry(want...)
				for how, from := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
					if diff := cmp.Diff(want, known(read(t, from))); diff != "" {
						t.Errorf("%s: -want +got:\n%s\nof\n%.400s", how, diff, text)
					}
				}
			})
		}
	}
}

// Whatever a log is carried by, what is torn in it is told, and what stands before and behind is read.
func TestWhatIsTornIsTold(t *testing.T) {
	for name, carry := range carriers {
		t.Run(name, func(t *testing.T) {
			found := known(read(t, strings.NewReader(carry(record, record[:len(record)-20], event))))
			told := slices.DeleteFunc(slices.Clone(found), func(s string) bool { return s == record || s == event })
			if len(found) != 3 || len(told) != 1 || !strings.HasSuffix(told[0], ErrTorn.Error()) {
				t.Errorf("found %q", found)
			}
		})
	}
}

func TestLines(t *testing.T) {
	const torn, unknown = "the line is torn: no whole JSON object", "it may hold a decision record or an audit event, in a form that is not known"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                          {"\n \n", nil},
		"the log of a program":             {"time=x level=INFO msg=serving\n" + `{"level":"INFO","msg":"serving"}`, []string{"other", "other"}},
		"a program that quotes a record":   {`{"level":"INFO","msg":"x","message":` + quoted(record) + "}", []string{"other"}},
		"an object of another kind":        {`{"a":1}`, []string{"object"}},
		"a torn line":                      {record[:40] + "\n" + record, []string{"1: " + torn, record}},
		"one within a text":                {record[:len(record)-10] + "\n" + record, []string{"1: " + torn, record}},
		"the end of a line":                {event[30:] + "\n" + record, []string{"1: " + torn, record}},
		"a torn one behind a prefix":       {"x " + event[:len(event)-5] + "\n" + record, []string{"1: " + torn, record}},
		"a text in an annotation":          {`{"kubernetes":{"annotations":{"a":` + quoted(record) + `}},"log":"x"}`, []string{"object"}},
		"a text nobody knows":              {`{"what":` + quoted(record) + `}` + "\n" + "x" + quoted(event), []string{"object", "2: " + unknown}},
		"the legacy format":                {`2026-11-29T10:00:00Z AUDIT: id="a" stage="ResponseComplete" uri="/api/v1/namespaces/shop/pods/web-0/eviction" response="201"`, []string{"1: " + unknown}},
		"printed, and cut off":             {pretty(event)[:100] + "\n" + record, []string{"1: " + torn, "other", "other", "other", "other", "other", record}},
		"a list that is cut off":           {"{\"items\": [\n" + pretty(event) + ",\n" + pretty(event)[:60], []string{"1: " + torn, event, "15: " + torn, "other", "other", "other"}},
		"behind the compressed data":       {zipped(record) + strings.Repeat("\x00", 512), []string{record, "1: what stands behind the compressed data was not read"}},
		"compressed data that is cut off":  {zipped(record)[:30], []string{"end: unexpected EOF"}},
		"a part that does not end":         {"2026-11-30T06:42:31Z stdout P " + record[:30] + "\n", []string{"1: " + torn}},
		"a line that is too long":          {record + "\n{" + strings.Repeat("x", MaxLine) + "}\n" + record, []string{record, "2: longer than 16 MiB", record}},
		"parts that are too long together": {strings.Repeat("2026-11-30T06:42:31Z stdout P "+strings.Repeat("x", 1<<20)+"\n", 17) + record, []string{"1: longer than 16 MiB", record}},
		"an object of a policy of audit":   {`{"kind":"Policy","apiVersion":"audit.k8s.io/v1"}`, []string{`{"kind":"Policy","apiVersion":"audit.k8s.io/v1"}`}},
		"an object without end many times": {strings.Repeat("{\n", 3), []string{"1: " + torn, "2: " + torn, "3: " + torn}},
		"Google's entry of something else": {`{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","methodName":"google.container.v1.ClusterManager.GetCluster"}}`, []string{"object"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, read(t, strings.NewReader(c.text))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// An entry of Google's becomes an audit event.
func TestGoogle(t *testing.T) {
	const entry = `{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","authenticationInfo":{"principalEmail":"system:serviceaccount:kube-system:cluster-autoscaler"},
"methodName":"io.k8s.core.v1.pods.eviction.create","resourceName":"core/v1/namespaces/shop/pods/web-0/eviction","status":{"code":8,"message":"no"}},
"insertId":"i","timestamp":"2026-11-29T10:00:00.5Z","labels":{"evictions.evictgate.dev/review-uid":"u"},"operation":{"id":"o"}}`
	want := map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "auditID": "o", "verb": "create", "userAgent": "",
		"user":           map[string]any{"username": "system:serviceaccount:kube-system:cluster-autoscaler"},
		"objectRef":      map[string]any{"apiGroup": "", "namespace": "shop", "resource": "pods", "name": "web-0", "subresource": "eviction"},
		"stageTimestamp": "2026-11-29T10:00:00.5Z",
		"annotations":    map[string]any{"evictions.evictgate.dev/review-uid": "u"},
		"responseStatus": map[string]any{"code": 429.0, "message": "no"},
	}
	found := read(t, strings.NewReader(entry))
	var got map[string]any
	if len(found) != 1 || json.Unmarshal([]byte(found[0]), &got) != nil {
		t.Fatalf("found %q", found)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzReader: no input makes the reader panic, or loses what stands in a line of its own behind a line that ended.
func FuzzReader(f *testing.F) {
	for _, all := range []map[string]func(...string) string{carriers, wrappers} {
		for _, carry := range all {
			f.Add(carry(record, event))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\x1f\x8b") || bytes.ContainsFunc([]byte(text[:min(len(text), 4)]), func(r rune) bool { return r == 0 || r == utf8.RuneError }) {
			return // what follows would be part of it
		}
		found := read(t, strings.NewReader(text+"\n"+record+"\n"))
		if len(found) == 0 {
			t.Fatal("the line behind was passed over")
		}
		for _, s := range found {
			if s == record || strings.HasPrefix(s, "1: ") || strings.Contains(s, ": ") {
				return
			}
		}
		t.Fatalf("the line behind was passed over, and nothing is told: %q", found)
	})
}
