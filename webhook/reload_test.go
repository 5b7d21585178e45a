package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/test/harness/scale"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

// reloads is how often the policies change in TestReloadsUnderLoad.
var reloads = scale.Of(100, 1000)

// generation offers two policies that both tell the generation; every tenth is broken in one of them.
func generation(n int) []source.Unit {
	rule := func(id string) policies.File {
		text := fmt.Sprintf("package eviction.%s\n\ndelay contains \"generation %d of %s\"\n", id, n, id)
		if id == "second" && n%10 == 0 {
			text += "\nbroken contains input.nothing\n"
		}
		return policies.File{Name: id + ".rego", Data: []byte(text)}
	}
	return []source.Unit{{Name: "both", Files: []policies.File{rule("first"), rule("second")}}}
}

// While the policies change a thousand times, every review is answered, each by one whole revision, and a
// broken one never serves.
func TestReloadsUnderLoad(t *testing.T) {
	var records bytes.Buffer
	g := newGate(t, &records)
	sources := source.New()
	known := sync.Map{} // revision -> true
	changed := make(chan source.Change, 1)
	sources.OnChange = func(c source.Change) {
		known.Store(c.Set.Revision(), true)
		changed <- c
	}
	sources.Add("dir", true)
	sources.Put("dir", generation(1), nil)
	g.Policies = sources.Current
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sources.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	<-changed

	server := httptest.NewServer(front(g))
	defer server.Close()
	var reviews, done atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for done.Load() == 0 {
				reviews.Add(1)
				if why := oneWhole(server.URL); why != "" {
					t.Error(why)
					return
				}
			}
		})
	}
	swapped, broken := 0, 0
	for n := 2; n <= reloads+1; n++ {
		sources.Put("dir", generation(n), nil)
		c := <-changed
		if c.Swapped {
			swapped++
		}
		if v := c.Verdicts["dir"]["both"]; v.Kept {
			broken++
		}
	}
	done.Store(1)
	load.Wait()
	stop()
	running.Wait()
	g.Records.Close()
	if swapped+broken != reloads || broken != reloads/10 {
		t.Errorf("%d of %d reloads swapped the set, %d kept the last good one", swapped, reloads, broken)
	}
	if lost := g.Records.Lost(); lost > 0 {
		t.Errorf("%d records lost", lost)
	}
	lines := 0
	for line := range bytes.Lines(records.Bytes()) {
		lines++
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if _, ok := known.Load(r.Revision); !ok {
			t.Fatalf("a record names revision %s, which never served", r.Revision)
		}
	}
	if int64(lines) != reviews.Load() {
		t.Errorf("%d records of %d reviews", lines, reviews.Load())
	}
	t.Logf("%d reviews during %d reloads, %d of them broken", reviews.Load(), reloads, broken)
}

// oneWhole sends a review and says what is wrong with its answer.
func oneWhole(url string) string {
	response, err := http.Post(url+hooks.EvictionsPath, "application/json", bytes.NewReader(review("web-7d4b9c6f5-2xkqv", nil)))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	var answer admissionv1.AdmissionReview
	if err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Response == nil {
		return fmt.Sprintf("status %d, %v: %s", response.StatusCode, err, body)
	}
	var first, second int
	message := answer.Response.Result.Message
	_, err = fmt.Sscanf(strings.ReplaceAll(message, ";", " "), "generation %d of first (policy first)  generation %d of second (policy second)", &first, &second)
	if err != nil || first != second || first%10 == 0 {
		return fmt.Sprintf("the answer is not of one whole revision (%v): %s", err, message)
	}
	return ""
}
