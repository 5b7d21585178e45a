// Package opa holds what Evictgate writes for others to OPA's own code.
package opa

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/plugins/logs"
)

// TestARecordIsAnEventOfOPAsDecisionLog reads the sample records as OPA's own type and compares what it
// sees with what stands there.
func TestARecordIsAnEventOfOPAsDecisionLog(t *testing.T) {
	raw, err := os.ReadFile("../../../webhook/record/schema/samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	erased := 0
	for line := range bytes.Lines(raw) {
		var event logs.EventV1
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%.100s: %v", line, err)
		}
		if _, err := event.AST(); err != nil {
			t.Errorf("%.100s: %v", line, err)
		}
		again, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var written, seen map[string]any
		for _, v := range []struct {
			raw []byte
			to  *map[string]any
		}{{line, &written}, {again, &seen}} {
			if err := json.Unmarshal(v.raw, v.to); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range []string{"labels", "decision_id", "revision", "path", "input", "result", "requested_by", "timestamp", "metrics", "erased"} {
			if !reflect.DeepEqual(written[key], seen[key]) {
				t.Errorf("%s: %s is %v, OPA sees %v", event.DecisionID, key, written[key], seen[key])
			}
			if written[key] == nil && key != "erased" {
				t.Errorf("%s: no %s", event.DecisionID, key)
			}
		}
		erased += len(event.Erased)
	}
	if erased == 0 {
		t.Error("no sample has something erased")
	}
}
