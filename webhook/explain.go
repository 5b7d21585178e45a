package webhook

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
)

// ExplainAnnotation is the annotation of an Eviction that asks, by the value "true", who decides it. The
// answer has one more warning then, so that one sees of an admitted eviction, too, that it passed here.
const ExplainAnnotation = "evictgate.dev/explain"

// explainPrefix begins the warning; JSON on the same line follows.
const explainPrefix = "evictgate: "

// Explanation says who decided an eviction.
type Explanation struct {
	Outcome  policies.Outcome `json:"outcome"`
	Revision string           `json:"revision"`
	// Replica is the host name of the process that decided, in a cluster its pod's name.
	Replica string `json:"replica"`
	// Now is the time of the answer by the replica's clock.
	Now time.Time `json:"now"`
}

// ReadExplanation finds the explanation among the warnings of an answer.
func ReadExplanation(warnings []string) (e Explanation, found bool) {
	for _, w := range warnings {
		line, ok := strings.CutPrefix(w, explainPrefix)
		if ok && json.Unmarshal([]byte(line), &e) == nil && e.Outcome != "" {
			return e, true
		}
	}
	return Explanation{}, false
}

// explain is the warning that an Eviction asks for; empty when it does not.
func (g *Gate) explain(r *policies.Request, d *policies.Decision) string {
	if r.Annotations[ExplainAnnotation] != "true" {
		return ""
	}
	line, err := json.Marshal(Explanation{
		Outcome: d.Outcome, Revision: d.Revision, Replica: g.Labels["id"], Now: g.Now().UTC().Truncate(time.Millisecond),
	})
	if err != nil { // its time is out of JSON's range
		return ""
	}
	return explainPrefix + string(line)
}
