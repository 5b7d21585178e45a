package browser

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// attack is a text that would run, if it were taken for HTML.
const attack = `"><script>document.title='owned'</script><img src=x onerror="document.title='owned'">`

// hostile are records as somebody with bad intent would have them made.
func hostile(base record.Record) []record.Record {
	texts := []string{
		attack,
		"=HYPERLINK(\"http://evil.example\")",
		"\x1b[31mred\x1b[0m\x00\x07 bell and \u202egnirts desrever\u202c zero\u200bwidth",
		strings.Repeat("a megabyte without a space ", 40_000),
		strings.Repeat("x", 3000),
		"العربية and עברית mixed with latin",
		"https://example.com/%2e%2e/?a=b&c=d#e",
	}
	var out []record.Record
	for i, text := range texts {
		r := base
		r.DecisionID = "hostile/" + string(rune('a'+i)) + "?#&" + short(text)
		r.Timestamp = now.Add(-time.Duration(i+1) * time.Minute)
		r.Request.Namespace, r.Request.Name = "hostile", short(text)
		r.Request.Evictor, r.Request.User = short(text), policies.User{Username: short(text), Groups: []string{text}}
		r.Request.Annotations = map[string]string{short(text): text}
		r.Request.DryRun = false
		r.Pod = &record.Object{Kind: "Pod", Name: short(text), UID: "uid-" + short(text), Node: short(text)}
		r.Owner = &record.Object{Kind: "Deployment", Name: short(text), UID: "o"}
		r.Labels = map[string]string{"id": short(text)}
		r.Revision = short(text)
		r.InputRefs = []string{text}
		r.Input, _ = json.Marshal(map[string]any{"pod": map[string]any{"annotations": map[string]string{"a": text}}})
		r.Result = &policies.Decision{
			Outcome: policies.Delayed, Code: 429, Reason: "TooManyRequests", Message: text, Warnings: []string{text}, Revision: r.Revision,
			Violations: []policies.Violation{{Policy: short(text), Effect: policies.Delay, Enforcement: policies.Enforce, Reason: text, Detail: map[string]any{short(text): text, "deep": []string{text}}}},
			Failures:   []policies.Failure{{Policy: short(text), Enforcement: policies.Warn, Error: text}},
			Causes:     []policies.Cause{{Type: policies.PolicyCause, Field: short(text), Message: text}},
			Override:   &policies.Override{Reason: text, Ignored: text},
			Disruption: &policies.Disruption{Code: 429, Detail: text, Cures: []string{text}, Blockers: []policies.Blocker{{Name: short(text), Why: short(text), Detail: text}}},
		}
		out = append(out, r)
	}
	return out
}

func short(text string) string { return text[:min(len(text), 100)] }
