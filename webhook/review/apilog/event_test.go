package apilog

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/webhook/record"
)

// captured are lines of a real API server, by the user agent that the client sent with the request. Gates
// were registered for the namespaces a and advise (--budgets=advise), a webhook that cannot be reached for open
// (Ignore) and closed (Fail), and none for unregistered.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]byte{}
	for line := range bytes.Lines(raw) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Stage != "RequestReceived" {
			lines[e.UserAgent] = bytes.TrimSpace(line)
		}
	}
	return lines
}

// told is what a line says about the way that an eviction went.
type told struct {
	Verb      record.Verb
	Passage   record.Passage
	Pod       string
	Code      int32
	RefusedBy string
	DryRun    bool
	// Asked says that it names a decision.
	Asked bool
}

func toldBy(a record.Answer) told {
	return told{a.Verb, a.Passage, a.Pod, a.Code, a.RefusedBy, a.DryRun, a.ReviewUID != ""}
}

// evicted, and what follows, are the ways of an eviction.
func evicted(passage record.Passage, pod string, code int32, refusedBy string) told {
	return told{Verb: record.VerbEvict, Passage: passage, Pod: pod, Code: code, RefusedBy: refusedBy, Asked: passage == record.Decided}
}

func dry(w told) told { w.DryRun = true; return w }

// passages says what the captured lines tell.
var passages = map[string]struct {
	agent string
	want  told
}{
	"we admitted and the API server evicted":                                {"a admitted", evicted(record.Decided, "web", 201, "")},
	"a policy of ours denied":                                               {"a denied", evicted(record.Decided, "deny", 403, "")},
	"a policy of ours delayed":                                              {"a delayed", evicted(record.Decided, "delay", 429, "")},
	"we answered for a budget":                                              {"a budget", evicted(record.Decided, "b1", 429, "")},
	"we answered for two budgets":                                           {"a two budgets", evicted(record.Decided, "b2", 500, "")},
	"a dry run in the query":                                                {"a dry query", dry(evicted(record.Decided, "one", 201, ""))},
	"a dry run in the body":                                                 {"a dry body", dry(evicted(record.Decided, "one", 201, ""))},
	"a pod that is not there is answered after we are asked":                {"a unknown", evicted(record.Decided, "ghost", 404, "api-server")},
	"the UID of another pod is found after we are asked":                    {"a bad uid", evicted(record.Decided, "two", 409, "api-server")},
	"delete options are checked after we are asked":                         {"a bad propagation", evicted(record.Decided, "three", 422, "api-server")},
	"a budget refused after we admitted":                                    {"advise budget", evicted(record.Decided, "b1", 429, "budget")},
	"two budgets refused after we admitted":                                 {"advise two budgets", evicted(record.Decided, "b2", 500, "budget")},
	"policy/v1beta1":                                                        {"v1beta1", evicted(record.Decided, "three", 201, "")},
	"the pod's own UID as a precondition":                                   {"good uid", evicted(record.Decided, "two", 201, "")},
	"an impersonated user, and an auditID of the client's":                  {"impersonated", evicted(record.Decided, "four", 201, "")},
	"another webhook denied, and we admitted":                               {"a other denies", evicted(record.Decided, "one", 403, "webhook a-other-denies.example.com")},
	"another webhook denied faster than we did":                             {"a both deny", evicted(record.Decided, "deny", 403, "webhook a-other-denies.example.com")},
	"another webhook denied more slowly than we did":                        {"a slow both deny", evicted(record.Decided, "deny", 403, "")},
	"another webhook denied with code 400":                                  {"code400", evicted(record.Decided, "one", 400, "webhook code400.example.com")},
	"another webhook could not be called, and we admitted":                  {"a other fails", evicted(record.Decided, "one", 500, "webhook a-other-fails.example.com")},
	"another webhook failed open, and we admitted":                          {"a other open", dry(evicted(record.Decided, "one", 201, ""))},
	"the request timed out after we had answered":                           {"a timeout", evicted(record.Decided, "one", 504, "api-server")},
	"we could not be asked, under Ignore":                                   {"open admitted", evicted(record.FailedOpen, "web", 201, "")},
	"we could not be asked, and a budget refused":                           {"open budget", evicted(record.FailedOpen, "b1", 429, "budget")},
	"we could not be asked, and two budgets refused":                        {"open two budgets", evicted(record.FailedOpen, "b2", 500, "budget")},
	"we could not be asked about a dry run":                                 {"open dry body", dry(evicted(record.FailedOpen, "one", 201, ""))},
	"we could not be asked about a pod that is not there":                   {"open unknown", evicted(record.FailedOpen, "ghost", 404, "api-server")},
	"we could not be asked, and another webhook denied":                     {"open other denies", evicted(record.FailedOpen, "one", 403, "webhook open-other-denies.example.com")},
	"neither we nor another webhook could be asked, under Ignore":           {"open other open", dry(evicted(record.FailedOpen, "one", 201, ""))},
	"the request timed out, and we could not be asked":                      {"open timeout", evicted(record.FailedOpen, "one", 504, "api-server")},
	"we could not be asked, under Fail":                                     {"closed admitted", evicted(record.FailedClosed, "web", 500, "")},
	"we could not be asked, under Fail, before another webhook denied":      {"closed other denies", evicted(record.FailedClosed, "one", 500, "")},
	"we could not be asked, under Fail, and another failed open":            {"closed other open", dry(evicted(record.FailedClosed, "one", 500, ""))},
	"timed out, and nothing says whether we were asked":                     {"closed timeout", evicted(record.Unseen, "one", 504, "api-server")},
	"evicted without a webhook of ours":                                     {"unregistered admitted", evicted(record.Unseen, "web", 201, "")},
	"a dry run in the body without a webhook of ours":                       {"unregistered dry body", dry(evicted(record.Unseen, "one", 201, ""))},
	"a budget refused without a webhook of ours":                            {"unregistered budget", evicted(record.Unseen, "b1", 429, "budget")},
	"two budgets refused without a webhook of ours":                         {"unregistered two budgets", evicted(record.Unseen, "b2", 500, "budget")},
	"a pod that is not there, without a webhook of ours":                    {"unregistered unknown", evicted(record.Unseen, "ghost", 404, "api-server")},
	"the UID of another pod, without a webhook of ours":                     {"unregistered bad uid", evicted(record.Unseen, "two", 409, "api-server")},
	"bad delete options without a webhook of ours":                          {"unregistered bad propagation", evicted(record.Unseen, "three", 422, "api-server")},
	"another webhook denied where ours is not registered":                   {"unregistered other denies", evicted(record.Unseen, "one", 403, "webhook unregistered-other-denies.example.com")},
	"a webhook refused the write to the budget, and ours is not registered": {"unregistered pdb status denied", evicted(record.Unseen, "b2", 403, "webhook unregistered-pdb-denied.example.com")},
	"another webhook could not be called where ours is not registered":      {"unregistered other fails", evicted(record.Unseen, "one", 500, "webhook unregistered-other-fails.example.com")},
	"another webhook failed open where ours is not registered":              {"unregistered other open", dry(evicted(record.Unseen, "one", 201, ""))},
	"a mutating webhook denied before us":                                   {"a mutating denies", evicted(record.NotCalled, "one", 403, "webhook a-mutating-denies.example.com")},
	"a mutating webhook could not be called before us":                      {"a mutating fails", evicted(record.NotCalled, "one", 500, "webhook a-mutating-fails.example.com")},
	"the name in the URL is another one":                                    {"mismatch", evicted(record.NotCalled, "one", 400, "api-server")},
	"a body that is not JSON":                                               {"bad json", evicted(record.NotCalled, "one", 400, "api-server")},
	"a body that is not an eviction":                                        {"wrong kind", evicted(record.NotCalled, "one", 400, "api-server")},
	"a body of another media type":                                          {"bad content type", evicted(record.NotCalled, "one", 415, "api-server")},
	"a body that is too large":                                              {"too large", evicted(record.NotCalled, "one", 413, "api-server")},
	"a dry run that the API server does not know":                           {"bad dry run", dry(evicted(record.NotCalled, "one", 422, "api-server"))},
	"two dry runs that contradict each other":                               {"both dry runs", dry(evicted(record.NotCalled, "one", 500, "api-server"))},
	"delete options that evictions do not take":                             {"ignore store", evicted(record.NotCalled, "one", 422, "api-server")},
	"a namespace that is not there":                                         {"no namespace", evicted(record.NotCalled, "one", 404, "api-server")},
	"a namespace that is terminating":                                       {"terminating", evicted(record.NotCalled, "one", 403, "api-server")},
	"a user who must not evict":                                             {"no rights", evicted(record.NotCalled, "one", 403, "api-server")},
	"a match condition that cannot be evaluated":                            {"match condition fails", evicted(record.NotCalled, "one", 403, "api-server")},
	"a ValidatingAdmissionPolicy denied, with Forbidden":                    {"vap Forbidden", evicted(record.NotCalled, "one", 403, "policy frozen.example.com")},
	"a ValidatingAdmissionPolicy denied, with Invalid":                      {"vap Invalid", evicted(record.NotCalled, "one", 422, "policy frozen.example.com")},
	"a pod is deleted":                                                      {"delete", told{Verb: record.VerbDelete, Pod: "del", Code: 200}},
	"a deletion that is a dry run in the query":                             {"delete dry", told{Verb: record.VerbDelete, Pod: "one", Code: 200, DryRun: true}},
	"a deletion that is a dry run in the body":                              {"delete dry body", told{Verb: record.VerbDelete, Pod: "one", Code: 200, DryRun: true}},
	"the deletion of a pod that is not there":                               {"delete ghost", told{Verb: record.VerbDelete, Pod: "ghost", Code: 404, RefusedBy: "api-server"}},
	"a pod is deleted with force":                                           {"delete force", told{Verb: record.VerbDelete, Pod: "b2", Code: 200}},
}

func TestPassages(t *testing.T) {
	lines, p := captured(t), NewParser(Options{})
	for sentence, c := range passages {
		t.Run(sentence, func(t *testing.T) {
			line, ok := lines[c.agent]
			if !ok {
				t.Fatalf("no line of %q", c.agent)
			}
			a, kind, err := p.Parse(line)
			if err != nil || kind != Answered {
				t.Fatalf("kind %d, error %v", kind, err)
			}
			if diff := cmp.Diff(c.want, toldBy(a)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// Without the bodies only a dry run in one of them is lost.
			a, _, err = p.Parse(atLevelMetadata(t, line))
			if strings.HasSuffix(c.agent, "dry body") {
				c.want.DryRun = false
			}
			if diff := cmp.Diff(c.want, toldBy(a)); diff != "" || err != nil {
				t.Errorf("at level Metadata: %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func atLevelMetadata(t *testing.T, line []byte) []byte {
	t.Helper()
	return changed(t, line, func(e map[string]any) {
		delete(e, "requestObject")
		delete(e, "responseObject")
		e["level"] = "Metadata"
	})
}

// changed is a line with a change.
func changed(t testing.TB, line []byte, change func(map[string]any)) []byte {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatal(err)
	}
	change(e)
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnAnswerHasAllThatTheLineTells(t *testing.T) {
	lines, p := captured(t), NewParser(Options{})
	a, _, err := p.Parse(lines["impersonated"])
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 18, 28, 16, 0, time.UTC)
	if a.At.Sub(at) < 0 || a.At.Sub(at) > 10*time.Second || a.At.Location() != time.UTC {
		t.Errorf("it was answered at %s", a.At)
	}
	if a.ID != "my-own-id@"+a.At.Format(time.RFC3339Nano) {
		t.Errorf("the id is %s", a.ID)
	}
	want := record.Answer{
		ID: a.ID, At: a.At, Verb: record.VerbEvict, Passage: record.Decided, Namespace: "a-4w5v9", Pod: "four",
		User: "alice", UserAgent: "impersonated", Code: 201, ReviewUID: "f543c1c7-56d3-41f1-8699-68bdf20c988b",
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if a, _, _ := p.Parse(lines["a denied"]); a.Reason != "Forbidden" ||
		a.Message != `admission webhook "evictions.evictgate.dev" denied the request: web is frozen; ask team-web (policy named)` {
		t.Errorf("reason %q, message %q", a.Reason, a.Message)
	}
}

func TestThePodsUIDIsWhatTheAnswerProves(t *testing.T) {
	lines, p := captured(t), NewParser(Options{})
	for agent, want := range map[string]string{
		"delete":     "dfd935c3-211b-426c-b28c-63aa82d2839d", // in the response
		"good uid":   uidOf(t, lines["good uid"]),            // a precondition that held
		"a bad uid":  "",                                     // one that did not
		"a admitted": "",
	} {
		if a, _, err := p.Parse(lines[agent]); err != nil || a.PodUID != want {
			t.Errorf("%s: the UID is %q, want %q (%v)", agent, a.PodUID, want, err)
		}
	}
	if uidOf(t, lines["good uid"]) == "" {
		t.Error("the captured line has no precondition")
	}
}

func uidOf(t *testing.T, line []byte) string {
	t.Helper()
	var e struct {
		RequestObject struct {
			DeleteOptions struct {
				Preconditions struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatal(err)
	}
	return e.RequestObject.DeleteOptions.Preconditions.UID
}

func TestWhatIsNoAnswer(t *testing.T) {
	lines := captured(t)
	with := func(agent, path, value string) []byte {
		return changed(t, lines[agent], func(e map[string]any) {
			at := e
			for head, rest, more := strings.Cut(path, "."); more; head, rest, more = strings.Cut(rest, ".") {
				at, path = at[head].(map[string]any), rest
			}
			at[path] = value
		})
	}
	for sentence, c := range map[string]struct {
		line    []byte
		options Options
		want    Kind
	}{
		"the stage before the answer":                        {line: with("a admitted", "stage", "RequestReceived")},
		"an answer after a panic of the API server":          {line: with("a admitted", "stage", "Panic"), want: Answered},
		"a stage that evictions do not have":                 {line: lines["bad timeout"]},
		"another verb":                                       {line: with("a admitted", "verb", "get")},
		"another subresource":                                {line: with("delete", "objectRef.subresource", "eviction")},
		"another resource":                                   {line: with("a admitted", "objectRef.resource", "nodes")},
		"pods of another group":                              {line: with("delete", "objectRef.apiGroup", "metrics.k8s.io")},
		"a deletion by the kubelet, which only finishes":     {line: with("delete", "user.username", "system:node:worker-1")},
		"a deletion of many":                                 {line: lines["delete collection"], want: Collection},
		"another kind of object":                             {line: with("a admitted", "kind", "Pod")},
		"a namespace that the webhook is not asked about":    {line: lines["a admitted"], options: Options{Namespaces: []string{"shop"}}, want: OutOfScope},
		"a namespace that the webhook is not asked about, 2": {line: lines["a admitted"], options: Options{Exempt: []string{"a-4w5v9"}}, want: OutOfScope},
		"a line of a log":                                    {line: []byte(`{"msg":"the \"pods\" and the \"eviction\""}`)},
		"nothing":                                            {},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, kind, err := NewParser(c.options).Parse(c.line); err != nil || kind != c.want {
				t.Errorf("kind %d, error %v; want %d", kind, err, c.want)
			}
		})
	}
}

func TestOthersOfTheSameName(t *testing.T) {
	line := captured(t)["a denied"]
	a, _, err := NewParser(Options{WebhookName: "gate.example.com"}).Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(evicted(record.Unseen, "deny", 403, "webhook evictions.evictgate.dev"), toldBy(a)); diff != "" {
		t.Errorf("under another name it is another webhook, -want +got:\n%s", diff)
	}
	renamed := bytes.ReplaceAll(line, []byte("evictions.evictgate.dev"), []byte("gate.example.com"))
	if a, _, _ := NewParser(Options{WebhookName: "gate.example.com"}).Parse(renamed); a.Passage != record.Decided {
		t.Errorf("under the name that it is registered by, its passage is %s", a.Passage)
	}
}

func TestNoTextPretendsToBeTheAPIServers(t *testing.T) {
	const ours = `admission webhook "evictions.evictgate.dev" denied the request: `
	lines := captured(t)
	for sentence, c := range map[string]struct {
		agent, message string
		want           told
	}{
		"another webhook that quotes us":        {"unregistered other denies", `admission webhook "x.example.com" denied the request: ` + ours, evicted(record.Unseen, "one", 403, "webhook x.example.com")},
		"a webhook that says it was a policy":   {"unregistered other denies", `admission webhook "x" denied the request: pods "one" is forbidden: ValidatingAdmissionPolicy 'p'`, evicted(record.Unseen, "one", 403, "webhook x")},
		"a pod whose name holds a quotation":    {"unregistered other denies", `pods "a\" is forbidden: x" not found`, evicted(record.Unseen, "one", 403, "api-server")},
		"a pod whose name holds a line's end":   {"unregistered other denies", `pods "a\n\x1b[31m" is forbidden: no`, evicted(record.NotCalled, "one", 403, "api-server")},
		"a budget that cannot be written":       {"unregistered bad propagation", `PodDisruptionBudget.policy "b" is invalid`, evicted(record.Unseen, "three", 422, "api-server")},
		"a panic of the call to us":             {"unregistered other denies", `Internal error occurred: ValidatingAdmissionWebhook/evictions.evictgate.dev has panicked: oops`, evicted(record.FailedClosed, "one", 403, "")},
		"we refused without a decision of ours": {"unregistered other denies", ours + "evictgate: panic: oops", evicted(record.FailedClosed, "one", 403, "")},
	} {
		t.Run(sentence, func(t *testing.T) {
			line := changed(t, lines[c.agent], func(e map[string]any) { e["responseStatus"].(map[string]any)["message"] = c.message })
			a, _, err := NewParser(Options{}).Parse(line)
			if diff := cmp.Diff(c.want, toldBy(a)); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestAnAnswerThatWasNeverWrittenIsNoSuccess(t *testing.T) {
	line := changed(t, captured(t)["a admitted"], func(e map[string]any) {
		e["responseStatus"] = map[string]any{"code": 200, "status": "Success", "message": "Connection closed early"}
	})
	a, _, err := NewParser(Options{}).Parse(line)
	if err != nil || a.Succeeded() || a.Passage != record.Decided || a.RefusedBy != "api-server" {
		t.Errorf("%+v %v", a, err)
	}
}

func TestHostileContentIsKeptAsTextAndBounded(t *testing.T) {
	line := changed(t, captured(t)["a other denies"], func(e map[string]any) {
		e["userAgent"] = strings.Repeat("<script>\x1b[31m\x00", 1000)
		e["objectRef"].(map[string]any)["name"] = "\u202e\ufeff<b>é"
		e["responseStatus"].(map[string]any)["message"] = strings.Repeat("é\x00\x1b[2J", 1<<20)
	})
	line = bytes.ReplaceAll(line, []byte("<b>"), []byte("<b>\xff\xfe"))
	line = bytes.ReplaceAll(line, []byte(`\u003cb\u003e`), []byte("<b>\xff\xfe"))
	a, kind, err := NewParser(Options{}).Parse(line)
	if err != nil || kind != Answered {
		t.Fatalf("kind %d, error %v", kind, err)
	}
	if a.Pod != "\u202e\ufeff<b>\uFFFD\uFFFDé" {
		t.Errorf("the pod is %q", a.Pod)
	}
	if len(a.Message) > maxMessage*3+3 || !strings.HasSuffix(a.Message, "…") || strings.Contains(a.Message, "\x00") {
		t.Errorf("the message has %d bytes and ends %q", len(a.Message), a.Message[len(a.Message)-10:])
	}
	if strings.Contains(a.UserAgent, "\x00") || !strings.HasPrefix(a.UserAgent, "<script>\x1b[31m\uFFFD") {
		t.Errorf("the user agent is %q", a.UserAgent[:40])
	}
}

func TestRecordsAreRead(t *testing.T) {
	raw, err := os.ReadFile("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.SplitN(raw, []byte("\n"), 2)[0]
	if _, kind, err := NewParser(Options{}).Parse(line); err != nil || kind != Decision {
		t.Fatalf("kind %d, error %v", kind, err)
	}
	r, err := record.Parse(line)
	if err != nil || r.DecisionID != "6aec3cb0-db87-48ec-96b0-12afc511f25c" || r.Result.Outcome != "admitted" || len(r.Input) == 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// FuzzParse: no bytes panic, and what is taken for an answer can be stored and told apart.
func FuzzParse(f *testing.F) {
	for _, line := range captured(f) {
		f.Add(line)
	}
	for _, seed := range []string{
		"", "{", `{"pods":"eviction"}`, `"pods" "eviction"`, `{"record_version":1}`, `{"record_version":"x"}`,
		`{"kind":"EventList","items":[{"pods":"delete"}]}`, `{"kind":"Event","objectRef":{"resource":"pods"},"verb":"delete","stage":"Panic"}`,
	} {
		f.Add([]byte(seed))
	}
	p := NewParser(Options{})
	f.Fuzz(func(t *testing.T, line []byte) {
		a, kind, err := p.Parse(line)
		switch {
		case err != nil && (kind != Other || a != record.Answer{}):
			t.Errorf("an error, and kind %d and %+v", kind, a)
		case (kind == Answered) != (a != record.Answer{}):
			t.Errorf("kind %d and %+v", kind, a)
		case kind == Answered && (a.ID == "" || a.At.IsZero() || a.Namespace == "" || a.Pod == ""):
			t.Errorf("no whole answer: %+v", a)
		case kind == Answered && (a.Verb == record.VerbEvict) != (a.Passage != ""):
			t.Errorf("verb %s and passage %q", a.Verb, a.Passage)
		case kind == Decision:
			_, _ = record.Parse(line)
		case kind == List:
			_, _ = Events(line)
		}
	})
}
