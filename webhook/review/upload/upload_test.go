package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// record is one with an input of so many bytes that do not compress.
func sized(id string, size int) record.Record {
	noise := make([]byte, size/2)
	random := rand.NewChaCha8([32]byte{1, byte(len(id)), id[len(id)-1]})
	_, _ = random.Read(noise)
	return record.Record{
		Version: record.Version, DecisionID: id, Timestamp: noon, Labels: map[string]string{"app": "evictgate", "id": "a"},
		Path: "eviction", RequestedBy: "admin", Revision: "r", InputRefs: []string{"input.pod"},
		Request: record.Request{Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin"}},
		Result:  &policies.Decision{Outcome: policies.Admitted, Code: 200, Revision: "r"},
		Metrics: map[string]int64{"timer_rego_query_eval_ns": 5},
		Input:   json.RawMessage(fmt.Sprintf(`{"pod":"%x"}`, noise)),
	}
}

func recordsTo(n, size int) (list []record.Record) {
	for i := range n {
		list = append(list, sized(fmt.Sprint("d", i), size))
	}
	return list
}

func idsOf(records []record.Record) (ids []string) {
	for _, r := range records {
		ids = append(ids, r.DecisionID)
	}
	return ids
}

// strict takes what OPA's documentation says a client sends, and nothing else.
type strict struct {
	t     *testing.T
	path  string
	limit int
	token string

	mu     sync.Mutex
	events []map[string]any
	sizes  []int
	// answers are given before anything is taken; 0 cuts the connection.
	answers []int
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("read: %v", err)
	}
	for what, ok := range map[string]bool{
		"POST " + s.path:                   r.Method == http.MethodPost && r.URL.Path == s.path,
		"Content-Type: application/json":   slices.Equal(r.Header.Values("Content-Type"), []string{"application/json"}),
		"Content-Encoding: gzip":           slices.Equal(r.Header.Values("Content-Encoding"), []string{"gzip"}),
		"Content-Length":                   r.ContentLength == int64(len(body)),
		"Authorization: Bearer " + s.token: s.token == "" || r.Header.Get("Authorization") == "Bearer "+s.token,
		"at most the limit":                len(body) <= s.limit,
	} {
		if !ok {
			s.t.Errorf("not %s: %s %s %v, %d bytes", what, r.Method, r.URL, r.Header, len(body))
		}
	}
	if len(s.answers) > 0 {
		code := s.answers[0]
		s.answers = s.answers[1:]
		if code == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(code)
		return
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		s.t.Fatalf("not gzip: %v", err)
	}
	decoder := json.NewDecoder(unpacked)
	var events []map[string]any
	if err := decoder.Decode(&events); err != nil || len(events) == 0 {
		s.t.Fatalf("no events: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		s.t.Errorf("something follows the array: %v", err)
	}
	for _, e := range events {
		for _, key := range []string{"decision_id", "labels", "timestamp", "path", "input", "result", "requested_by", "metrics", "revision"} {
			if _, ok := e[key]; !ok {
				s.t.Errorf("an event lacks %s", key)
			}
		}
	}
	s.events, s.sizes = append(s.events, events...), append(s.sizes, len(body))
	w.WriteHeader(http.StatusNoContent)
}

func (s *strict) ids() (list []string) {
	for _, e := range s.events {
		list = append(list, e["decision_id"].(string))
	}
	return list
}

func client(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestUploadsAreAsOPASendsThem(t *testing.T) {
	for name, tt := range map[string]struct {
		count, size, limit int
		most               int // uploads
	}{
		"few and small":               {5, 1000, DefaultLimit, 1},
		"many":                        {500, 2000, DefaultLimit, 45},
		"many, and a large limit":     {500, 2000, 1 << 20, 5},
		"each as large as the limit":  {8, 60_000, 40_000, 8},
		"small and an upload is tiny": {40, 1000, minLimit, 25},
	} {
		t.Run(name, func(t *testing.T) {
			s := &strict{t: t, path: "/opa/logs/eu-1", limit: tt.limit}
			c := client(t, ClientOptions{URL: serve(t, s).URL + "/opa/logs/eu-1", Limit: tt.limit})
			records := recordsTo(tt.count, tt.size)
			if n, err := c.Send(t.Context(), records); n != tt.count || err != nil {
				t.Fatalf("sent %d: %v", n, err)
			}
			if diff := cmp.Diff(idsOf(records), s.ids()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(s.sizes) > tt.most {
				t.Errorf("%d uploads, expected at most %d: %v", len(s.sizes), tt.most, s.sizes)
			}
			for _, e := range s.events {
				if e["input"] == nil || e["erased"] != nil {
					t.Errorf("an input is missing: %.200v", e)
				}
			}
		})
	}
}

func TestARecordThatIsTooLargeIsSentWithoutItsInput(t *testing.T) {
	s := &strict{t: t, path: "/logs", limit: DefaultLimit}
	c := client(t, ClientOptions{URL: serve(t, s).URL + "/logs"})
	records := []record.Record{sized("a", 10), sized("b", 200_000), sized("c", 10)}
	records[1].Erased = make([]string, 1, 10)
	records[1].Erased[0] = "/input/x"
	if n, err := c.Send(t.Context(), records); n != 3 || err != nil {
		t.Fatalf("sent %d: %v", n, err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, s.ids()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"/input/x", "/input"}, s.events[1]["erased"]); diff != "" || s.events[1]["input"] != nil {
		t.Errorf("%s, input %.100v", diff, s.events[1]["input"])
	}
	if records[1].Input == nil || records[1].Erased[:2][1] != "" {
		t.Error("the record itself was changed; the store may have it, too")
	}
	noise := string(sized("x", 100_000).Input)
	records[1].Result.Message = noise
	n, err := c.Send(t.Context(), records)
	if n != 1 || !errors.Is(err, record.ErrRefused) || !strings.Contains(err.Error(), "record b has ") {
		t.Errorf("too large without its input, too: sent %d: %v", n, err)
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		code    int
		body    string
		refused bool
		want    string
	}{
		"ok":                              {200, "{}", false, ""},
		"no content":                      {204, "", false, ""},
		"a page":                          {200, "<html>", false, ""},
		"our own":                         {200, `{"new":1,"known":0,"skipped":[]}`, false, ""},
		"our own, that skips":             {200, `{"new":0,"known":0,"skipped":[{"index":0,"why":"too new"}]}`, true, "refused: too new"},
		"a redirect":                      {307, "", false, "the server answers 307, which leads elsewhere; give the URL it leads to"},
		"malformed":                       {400, `{"error":"byte 3"}`, true, `refused: the server answers 400: "{\"error\":\"byte 3\"}"`},
		"not authenticated":               {401, "who?", false, `the server answers 401: "who?"`},
		"forbidden":                       {403, "", false, `the server answers 403: ""`},
		"no such path":                    {404, "", false, `the server answers 404: ""`},
		"too large":                       {413, "", true, `refused: the server answers 413: ""`},
		"too many":                        {429, "", false, `the server answers 429: ""`},
		"broken, with control characters": {500, "\x1b[31m" + strings.Repeat("x", 1000), false, `the server answers 500: "\x1b[31m` + strings.Repeat("x", 195) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, ClientOptions{URL: serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://192.0.2.1/")
				w.WriteHeader(tt.code)
				_, _ = io.WriteString(w, tt.body)
			})).URL + "/logs"})
			n, err := c.Send(t.Context(), recordsTo(3, 10))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || errors.Is(err, record.ErrRefused) != tt.refused || (n == 3) != (tt.want == "") {
				t.Errorf("sent %d: %v\nwant %s", n, err, tt.want)
			}
		})
	}
}

// The whole way through an output: what fails is tried again, and nothing is lost or doubled.
func TestAnOutputUploadsThroughFailures(t *testing.T) {
	s := &strict{t: t, path: "/logs", limit: DefaultLimit, answers: []int{500, 0, 503, 429, 401}}
	c := client(t, ClientOptions{URL: serve(t, s).URL + "/logs"})
	o := record.NewOutput(record.OutputOptions{Name: record.OutputUpload, Target: c, Log: quiet, Linger: 1, FirstRetry: time.Millisecond})
	w := record.NewWriter(io.Discard, quiet, o)
	for _, r := range recordsTo(200, 1000) {
		w.Write(func() (record.Record, error) { return r, nil })
	}
	w.Close()
	if diff := cmp.Diff(idsOf(recordsTo(200, 1)), s.ids()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(record.Counts{Output: "upload", Written: 200}, o.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestTheTokenIsReadForEachUpload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	s := &strict{t: t, path: "/logs", limit: DefaultLimit, token: "first"}
	c := client(t, ClientOptions{URL: serve(t, s).URL + "/logs", TokenFile: file})
	for _, token := range []string{"first", "second"} {
		s.token = token
		write(token + "\n")
		if _, err := c.Send(t.Context(), recordsTo(1, 10)); err != nil {
			t.Error(err)
		}
	}
	write("")
	if _, err := c.Send(t.Context(), recordsTo(1, 10)); err == nil || errors.Is(err, record.ErrRefused) {
		t.Errorf("an empty token: %v", err)
	}
}

func TestTheServersCertificateIsChecked(t *testing.T) {
	s := &strict{t: t, path: "/logs", limit: DefaultLimit}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := client(t, ClientOptions{URL: server.URL + "/logs", CAFile: ca}).Send(t.Context(), recordsTo(2, 10)); n != 2 || err != nil {
		t.Errorf("with the CA: sent %d: %v", n, err)
	}
	if n, err := client(t, ClientOptions{URL: server.URL + "/logs"}).Send(t.Context(), recordsTo(2, 10)); n != 0 || err == nil || errors.Is(err, record.ErrRefused) {
		t.Errorf("without the CA: sent %d: %v", n, err)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]ClientOptions{
		"the upload's URL must begin with https:// or http:// and a host":                                                         {URL: "ftp://host/logs"},
		"the upload's URL must begin with https:// or http:// and a host ":                                                        {URL: "https://u:secret@host:port/logs"},
		"the upload's URL http://host has no path; OPA's protocol has /logs, or /logs/PARTITION, at the end of the service's URL": {URL: "http://host"},
		"the upload's URL https://u:xxxxx@host/logs holds a user; give a token file":                                              {URL: "https://u:secret@host/logs"},
		"the limit of an upload is 90 bytes; expected at least 4096":                                                              {URL: "http://host/logs", Limit: 90},
		"the upload's CA file is for https://, and http://host/logs is not encrypted":                                             {URL: "http://host/logs", CAFile: none},
		"read the upload's CA file: open " + none + ": no such file or directory":                                                 {URL: "https://host/logs", CAFile: none},
		"the upload's CA file " + empty + " holds no PEM certificate":                                                             {URL: "https://host/logs", CAFile: empty},
		"read the token: open " + none + ": no such file or directory":                                                            {URL: "https://host/logs", TokenFile: none},
		"the token file " + empty + " must hold one bearer token on one line":                                                     {URL: "https://host/logs", TokenFile: empty},
	} {
		if _, err := NewClient(o); err == nil || err.Error() != strings.TrimSpace(want) {
			t.Errorf("%+v:\n got %v\nwant %s", o, err, want)
		}
	}
}

// kept is a store by decision id.
type kept struct {
	mu      sync.Mutex
	records []record.Record
	err     error
}

func (k *kept) add(_ context.Context, records []record.Record) (a store.Added, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return a, k.err
	}
	for _, r := range records {
		if slices.Contains(idsOf(k.records), r.DecisionID) {
			a.Known++
			continue
		}
		a.New++
		k.records = append(k.records, r)
	}
	return a, nil
}

func packed(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body)
	_ = w.Close()
	return b.Bytes()
}

// upload posts a body and returns the answer.
func upload(h http.Handler, path string, body []byte, header ...string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func array(t *testing.T, records []record.Record) []byte {
	t.Helper()
	raw, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheHandlerStoresEachRecordOnce(t *testing.T) {
	k := &kept{}
	h := Handler(HandlerOptions{Add: k.add, Log: quiet})
	records := recordsTo(3, 100)
	for _, step := range []struct {
		name, path string
		body       []byte
		header     []string
		want       string
	}{
		{"plain", "/logs", array(t, records[:1]), nil, `{"new":1,"known":0,"skipped":[],"skipped_count":0}`},
		{"gzip, to a partition", "/logs/eu-1", packed(array(t, records[:2])), []string{"Content-Encoding", "gzip"}, `{"new":1,"known":1,"skipped":[],"skipped_count":0}`},
		{"with a charset", "/logs", array(t, records), []string{"Content-Type", "application/json; charset=utf-8"}, `{"new":1,"known":2,"skipped":[],"skipped_count":0}`},
		{"nothing", "/logs", []byte(" [ ] "), nil, `{"new":0,"known":0,"skipped":[],"skipped_count":0}`},
	} {
		if code, got := upload(h, step.path, step.body, step.header...); code != 200 || got != step.want {
			t.Errorf("%s: %d %s", step.name, code, got)
		}
	}
	if diff := cmp.Diff(records, k.records); diff != "" {
		t.Errorf("-sent +stored:\n%s", diff)
	}
}

func TestOtherEventsAreSkippedAndCounted(t *testing.T) {
	k := &kept{}
	h := Handler(HandlerOptions{Add: k.add, Log: quiet})
	own, err := sized("a", 10).AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	opa := `{"decision_id":"x","labels":{},"timestamp":"2026-11-23T12:00:00Z","path":"system/main"}`
	newer := `{"record_version":2,"decision_id":"y"}`
	code, got := upload(h, "/logs", []byte("["+opa+","+string(own)+", "+newer+" ]"))
	want := `{"new":1,"known":0,"skipped":[{"index":0,"why":"it has no record_version, so it is not a record of Evictgate"},{"index":2,"why":"its record_version is 2; this Evictgate reads 1"}],"skipped_count":2}`
	if code != 200 || got != want {
		t.Errorf("%d %s", code, got)
	}
	code, got = upload(h, "/logs", []byte("["+strings.Repeat("{},", 5000)+"{}]"))
	var a Answer
	if err := json.Unmarshal([]byte(got), &a); err != nil || code != 200 || a.SkippedCount != 5001 || len(a.Skipped) != maxTold {
		t.Errorf("%d, %d skipped, %d listed: %v", code, a.SkippedCount, len(a.Skipped), err)
	}
}

func TestBadUploadsAreRefusedWithASentence(t *testing.T) {
	good, err := sized("a", 10).AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, replacement string) []byte {
		text := strings.Replace(string(good), old, replacement, 1)
		if text == string(good) {
			t.Fatalf("no %s in %s", old, good)
		}
		return []byte("[{},\n" + text + "]")
	}
	bomb := packed(append(append([]byte("["), bytes.Repeat([]byte(" "), maxUnpacked)...), []byte("{}]")...))
	long := packed([]byte(`[{"a":"` + strings.Repeat("a", maxEvent) + `"}]`))
	for name, tt := range map[string]struct {
		body   []byte
		header []string
		code   int
		want   string
	}{
		"nothing":                {nil, nil, 400, "the body must be a JSON array of events"},
		"an object":              {[]byte(`{"a":1}`), nil, 400, "the body must be a JSON array of events"},
		"a number in the array":  {[]byte(`[{}, 7]`), nil, 400, "event 1: byte 5: an event must be a JSON object"},
		"no JSON":                {[]byte(`[{}, {"a":tru}]`), nil, 400, "event 1: byte 13: invalid character '}' in literal true (expecting 'e')"},
		"no comma":               {[]byte(`[{} {}]`), nil, 400, "event 1: byte 4: expected comma after array element"},
		"it ends in an event":    {[]byte(`[{}, {"a":1`), nil, 400, "event 1: byte 10: the body ends too early"},
		"it ends after an event": {[]byte(`[{}`), nil, 400, "the array does not end: byte 3: the body ends too early"},
		"something follows":      {[]byte(`[{}] []`), nil, 400, "something follows the array: byte 5"},
		"another type":           {change(`"decision_id":"a"`, `"decision_id":7`), nil, 400, "event 1: byte 39: json: cannot unmarshal number into Go struct field Record.decision_id of type string"},
		"no id":                  {change(`"decision_id":"a"`, `"decision_id":""`), nil, 400, "event 1: byte 5: its decision_id has 0 bytes; expected 1 to 256"},
		"a long id":              {change(`"decision_id":"a"`, `"decision_id":"`+strings.Repeat("x", 300)+`"`), nil, 400, "event 1: byte 5: its decision_id has 300 bytes; expected 1 to 256"},
		"no time":                {change(`"timestamp":"2026-11-23T12:00:00Z",`, ``), nil, 400, "event 1: byte 5: it has no timestamp"},
		"no result":              {change(`"result":{`, `"results":{`), nil, 400, "event 1: byte 5: it has no result"},
		"another content type":   {[]byte("[]"), []string{"Content-Type", "text/plain"}, 415, `Content-Type is "text/plain"; expected application/json`},
		"another encoding":       {[]byte("[]"), []string{"Content-Encoding", "br"}, 415, `Content-Encoding is "br"; expected gzip, or none`},
		"no gzip":                {[]byte("[]"), []string{"Content-Encoding", "gzip"}, 400, "the body is not gzip, as Content-Encoding says: unexpected EOF"},
		"a gzip that is cut":     {packed([]byte("[{},{},{}]"))[:15], []string{"Content-Encoding", "gzip"}, 400, "the body cannot be read after 4 bytes: unexpected EOF"},
		"a bomb":                 {bomb, []string{"Content-Encoding", "gzip"}, 413, "the upload has more than 33554432 bytes unpacked; send less at once (OPA: upload_size_limit_bytes)"},
		"a long event":           {long, []string{"Content-Encoding", "gzip"}, 413, "event 0: byte 1: an element is too large: more than 10485760 bytes"},
		"too large as it is":     {bytes.Repeat([]byte(" "), maxBody+1), nil, 413, "the upload has more than 8388608 bytes; send less at once (OPA: upload_size_limit_bytes), or compress it"},
		"too many events":        {[]byte("[" + strings.Repeat("{},", maxEvents) + "{}]"), nil, 400, "more than 100000 events in an upload; send less at once"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kept{}
			code, got := upload(Handler(HandlerOptions{Add: k.add, Log: quiet}), "/logs", tt.body, tt.header...)
			var answer struct{ Error string }
			if err := json.Unmarshal([]byte(got), &answer); err != nil || code != tt.code || answer.Error != tt.want {
				t.Errorf("%d %s\nwant %d %s", code, answer.Error, tt.code, tt.want)
			}
			if len(k.records) > 0 {
				t.Errorf("%d records stored", len(k.records))
			}
		})
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	h := Handler(HandlerOptions{Add: (&kept{}).add, Log: quiet})
	for request, want := range map[string]int{"GET /logs": 405, "PUT /logs": 405, "POST /": 404, "POST /logs/a/b": 404} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("[]")))
		if w.Code != want {
			t.Errorf("%s: %d", request, w.Code)
		}
	}
}

func TestAStoreThatFailsIsTriedAgain(t *testing.T) {
	var logged bytes.Buffer
	k := &kept{err: errors.New("postgres://u:p@h is away")}
	server := serve(t, Handler(HandlerOptions{Add: k.add, Log: slog.New(slog.NewTextHandler(&logged, nil))}))
	c := client(t, ClientOptions{URL: server.URL + "/logs"})
	n, err := c.Send(t.Context(), recordsTo(2, 10))
	if n != 0 || err == nil || errors.Is(err, record.ErrRefused) || !strings.Contains(err.Error(), "503") || strings.Contains(err.Error(), "u:p@h") {
		t.Errorf("sent %d: %v", n, err)
	}
	k.err = nil
	if n, err := c.Send(t.Context(), recordsTo(2, 10)); n != 2 || err != nil || len(k.records) != 2 {
		t.Errorf("sent %d, stored %d: %v", n, len(k.records), err)
	}
	if !strings.Contains(logged.String(), "is away") {
		t.Errorf("not told: %s", logged.String())
	}
}

func TestWhoMayUpload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		authenticate func(*http.Request) error
		header       string
		code         int
		want         string
	}{
		"the token":           {BearerToken(file), "Bearer s3cret", 200, `{"new":1,"known":0,"skipped":[],"skipped_count":0}`},
		"in other letters":    {BearerToken(file), "bearer s3cret", 200, `{"new":1,"known":0,"skipped":[],"skipped_count":0}`},
		"another token":       {BearerToken(file), "Bearer s3cre", 401, `{"error":"not authenticated: the bearer token is not the one that is expected"}`},
		"no token":            {BearerToken(file), "", 401, `{"error":"not authenticated: send the header Authorization: Bearer TOKEN"}`},
		"another scheme":      {BearerToken(file), "Basic czNjcmV0", 401, `{"error":"not authenticated: send the header Authorization: Bearer TOKEN"}`},
		"a file that is gone": {BearerToken(file + "x"), "Bearer s3cret", 503, `{"error":"who you are cannot be checked now; send it again"}`},
		"one who may not":     {func(*http.Request) error { return fmt.Errorf("%w: user a may not create logs", ErrForbidden) }, "", 403, `{"error":"forbidden: user a may not create logs"}`},
		"everybody":           {nil, "", 200, `{"new":1,"known":0,"skipped":[],"skipped_count":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kept{}
			h := Handler(HandlerOptions{Add: k.add, Authenticate: tt.authenticate, Log: quiet})
			code, got := upload(h, "/logs", array(t, recordsTo(1, 10)), "Authorization", tt.header)
			if code != tt.code || got != tt.want || (len(k.records) == 1) != (code == 200) {
				t.Errorf("%d %s, %d stored", code, got, len(k.records))
			}
		})
	}
}

// What comes from elsewhere must not break the lines of what is exported again.
func TestAnInputIsKeptOnOneLine(t *testing.T) {
	k := &kept{}
	body := bytes.Replace(array(t, recordsTo(1, 10)), []byte(`"input":{`), []byte("\"input\":{\"a\" :\r\n\t\"\xff\x1b\",\n"), 1)
	body = bytes.Replace(body, []byte("\x1b"), []byte(`\u001b`), 1)
	if code, got := upload(Handler(HandlerOptions{Add: k.add, Log: quiet}), "/logs", body); code != 200 {
		t.Fatalf("%d %s", code, got)
	}
	if want := `{"a":"` + "\uFFFD" + `\u001b",`; !strings.HasPrefix(string(k.records[0].Input), want) {
		t.Errorf("got %q, want %q", k.records[0].Input, want)
	}
}

func FuzzHandler(f *testing.F) {
	for _, seed := range []string{"[]", "[{}]", `[{"record_version":1}]`, "[", "[{},", "\x1f\x8b", `[{"record_version":1,"decision_id":"a","timestamp":"2026-11-23T12:00:00Z","result":{},"input":[1, 2]}]`} {
		f.Add([]byte(seed), false)
		f.Add(packed([]byte(seed)), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, gzipped bool) {
		k := &kept{}
		var header []string
		if gzipped {
			header = []string{"Content-Encoding", "gzip"}
		}
		code, got := upload(Handler(HandlerOptions{Add: k.add, Log: quiet}), "/logs", body, header...)
		if (code != 200 && code != 400 && code != 413) || (code != 200 && len(k.records) > 0) || !json.Valid([]byte(got)) {
			t.Fatalf("%d %s, %d stored", code, got, len(k.records))
		}
		for _, r := range k.records {
			line, err := r.AppendJSON(nil)
			if err != nil || bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
				t.Fatalf("%v: %q", err, line)
			}
		}
	})
}

// From a replica's client through the handler into a real store, and back.
func TestARecordArrivesAsItLeft(t *testing.T) {
	s, err := store.Open(t.Context(), "sqlite::memory:", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	server := serve(t, Handler(HandlerOptions{Add: s.Add, Log: quiet}))
	c := client(t, ClientOptions{URL: server.URL + "/logs/eu-1"})
	raw, err := os.ReadFile("../../record/schema/samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var records []record.Record
	for line := range bytes.Lines(raw) {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	for range 2 { // the second time all are known
		if n, err := c.Send(t.Context(), records); n != len(records) || err != nil {
			t.Fatalf("sent %d: %v", n, err)
		}
	}
	var got []string
	for r, err := range s.Records(t.Context(), store.Filter{DryRuns: true}) {
		if err != nil {
			t.Fatal(err)
		}
		line, err := r.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
	}
	slices.Sort(got)
	want := strings.Split(strings.TrimSpace(string(raw)), "\n")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-sent +stored:\n%s", diff)
	}
}

// TestUploadsAreBoundedInAll: a few are held, some wait, and one more is told to come back.
func TestUploadsAreBoundedInAll(t *testing.T) {
	body := array(t, recordsTo(1, 100))
	for name, tt := range map[string]struct {
		held int
		body func() io.Reader
	}{
		"small":         {smallAtOnce, func() io.Reader { return bytes.NewReader(body) }},
		"of any length": {heldAtOnce, func() io.Reader { return io.MultiReader(bytes.NewReader(body)) }},
	} {
		t.Run(name, func(t *testing.T) { uploadsAreBounded(t, tt.held, tt.body) })
	}
}

func uploadsAreBounded(t *testing.T, held int, body func() io.Reader) {
	open, storing := make(chan struct{}), make(chan struct{}, 100)
	h := Handler(HandlerOptions{Log: quiet, Add: func(_ context.Context, records []record.Record) (store.Added, error) {
		storing <- struct{}{}
		<-open
		return store.Added{New: len(records)}, nil
	}})
	post := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/logs", body()))
		return w
	}
	codes := make(chan int, 100)
	for range held + maxWaiting + 3 {
		go func() { codes <- post().Code }()
	}
	for range 3 {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("one too many: %d", code)
		}
	}
	if w := post(); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != retryAfter || !strings.Contains(w.Body.String(), "too many uploads at once") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := len(storing); n > readAtOnce {
		t.Errorf("%d are stored at once", n)
	}
	close(open)
	for range held + maxWaiting {
		if code := <-codes; code != http.StatusOK && code != http.StatusTooManyRequests { // on a slow machine they wait too long
			t.Errorf("one that waited: %d", code)
		}
	}
}

// TestASmallUploadWaitsForNoLargeOneToEnd: each of those before it has a part read or stored, and then it is its turn.
func TestASmallUploadWaitsForNoLargeOneToEnd(t *testing.T) {
	const large, parts = heldAtOnce, 4
	var stored atomic.Int64
	begun := make(chan struct{}, large*parts*2)
	h := Handler(HandlerOptions{Log: quiet, Add: func(_ context.Context, records []record.Record) (store.Added, error) {
		if len(records) > 1 {
			begun <- struct{}{}
			time.Sleep(5 * time.Millisecond)
			stored.Add(1)
		}
		return store.Added{New: len(records)}, nil
	}})
	records := recordsTo(parts*keptBytes/10_000, 0)
	for i := range records {
		records[i].Input = json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
	}
	body := packed(array(t, records))
	var sending sync.WaitGroup
	for range large {
		sending.Go(func() {
			if code, got := upload(h, "/logs", body, "Content-Encoding", "gzip"); code != http.StatusOK {
				t.Errorf("a large one: %d %s", code, got)
			}
		})
	}
	<-begun
	before := stored.Load()
	if code, got := upload(h, "/logs", array(t, recordsTo(1, 10))); code != http.StatusOK {
		t.Errorf("the small one: %d %s", code, got)
	}
	if n := stored.Load() - before; n > 3*large {
		t.Errorf("it has waited for %d parts", n)
	}
	sending.Wait()
	if n := stored.Load(); n < large*parts {
		t.Errorf("%d parts of the large ones were stored", n)
	}
}

// TestAnUploadThatNobodyWaitsForEnds between two of its parts.
func TestAnUploadThatNobodyWaitsForEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	h := Handler(HandlerOptions{Log: quiet, Add: func(_ context.Context, records []record.Record) (store.Added, error) {
		calls++
		cancel()
		return store.Added{New: len(records)}, nil
	}})
	body := array(t, recordsTo(1500, 4000))
	for range 2 { // the first leaves no turn taken
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/logs", bytes.NewReader(body)))
		if w.Code != http.StatusTooManyRequests {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if calls > 1 {
		t.Errorf("%d parts were stored", calls)
	}
	for range readAtOnce + 1 {
		if code, got := upload(h, "/logs", array(t, recordsTo(1, 10))); code != http.StatusOK {
			t.Errorf("the next: %d %s", code, got)
		}
	}
}

// TestALargeUploadIsNeverWholeInMemory unpacks 6 MB of records, eight at once, and looks at how much is in use while
// they are stored: what is sent packed is held, and what is unpacked is not.
func TestALargeUploadIsNeverWholeInMemory(t *testing.T) {
	var most atomic.Int64
	var stored atomic.Int64
	h := Handler(HandlerOptions{Log: quiet, Add: func(_ context.Context, records []record.Record) (store.Added, error) {
		stored.Add(int64(len(records)))
		most.Store(max(most.Load(), inUse()))
		return store.Added{New: len(records)}, nil
	}})
	records := recordsTo(600, 0)
	for i := range records {
		records[i].Input = json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
	}
	body := packed(array(t, records))
	clear(records) // what is measured is not the test's own
	before := inUse()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			code, got := http.StatusTooManyRequests, ""
			for code == http.StatusTooManyRequests { // a slow machine
				code, got = upload(h, "/logs", body, "Content-Encoding", "gzip")
			}
			if code != 200 || !strings.HasPrefix(got, `{"new":600,`) {
				t.Errorf("%d %s", code, got)
			}
		})
	}
	wg.Wait()
	if grown := most.Load() - before; stored.Load() != 8*600 || grown > 30<<20 {
		t.Errorf("%d records stored; the heap has grown by %d MiB", stored.Load(), grown>>20)
	}
}

// inUse is the heap after a collection.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestALargeUploadThatIsMalformedAtItsEndStoresNothing: it is read to its end before anything is stored.
func TestALargeUploadThatIsMalformedAtItsEndStoresNothing(t *testing.T) {
	k := &kept{}
	body := array(t, recordsTo(500, 10_000))
	body = append(body[:len(body)-1], []byte(`,7]`)...)
	code, got := upload(Handler(HandlerOptions{Add: k.add, Log: quiet}), "/logs", body)
	if code != 400 || !strings.Contains(got, "event 500: byte ") || len(k.records) > 0 {
		t.Errorf("%d %s, %d stored", code, got, len(k.records))
	}
}

// TestABatchIsPackedNoFurtherThanItFits: records of any size, sent together, take the memory of one upload.
func TestABatchIsPackedNoFurtherThanItFits(t *testing.T) {
	records := recordsTo(100, 0)
	noise := make([]byte, 100_000)
	for i := range records {
		for j := range noise {
			noise[j] = byte('a' + rand.IntN(26))
		}
		records[i].Input = json.RawMessage(`"` + string(noise) + `"`)
	}
	compressed, written, err := compress(records, DefaultLimit)
	if err != nil || written > 5 || len(compressed) <= DefaultLimit || len(compressed) > 1<<20 {
		t.Errorf("%d records, %d bytes, %v", written, len(compressed), err)
	}
}
