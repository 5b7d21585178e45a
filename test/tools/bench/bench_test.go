package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestMedian(t *testing.T) {
	for name, c := range map[string]struct {
		figures []float64
		want    spread
	}{
		"one":                               {[]float64{3}, spread{3, 3, 3}},
		"the middle of an odd number":       {[]float64{9, 1, 4}, spread{4, 1, 9}},
		"the mean of the two in the middle": {[]float64{8, 1, 2, 4}, spread{3, 1, 8}},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), c.figures...)
			if diff := cmp.Diff(c.want, spreadOf(c.figures)); diff != "" {
				t.Errorf("spread (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, c.figures); diff != "" {
				t.Errorf("the figures were changed:\n%s", diff)
			}
		})
	}
	if got := spreadOf(nil); !math.IsNaN(got.Median) {
		t.Errorf("spread of nothing is %v, want not a number", got)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for name, c := range map[string]struct {
		sorted []int
		q      float64
		want   int
	}{
		"p99 of a hundred is the ninety-ninth": {hundred, .99, 99},
		"the median of a hundred":              {hundred, .5, 50},
		"p99 of three is the largest":          {[]int{1, 2, 3}, .99, 3},
		"of one":                               {[]int{7}, .5, 7},
		"of nothing":                           {nil, .99, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(c.sorted, c.q); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	// The machine is half as fast in the second round; both sides suffer.
	base := []sample{{reviews: 10, cpu: time.Millisecond}, {reviews: 10, cpu: 2 * time.Millisecond}}
	subject := []sample{{reviews: 20, cpu: 3 * time.Millisecond}, {reviews: 20, cpu: 6 * time.Millisecond}, {reviews: 20, cpu: time.Second}}
	if diff := cmp.Diff([]float64{1.5, 1.5}, ratios(subject, base, cpuMicros)); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
}

func TestParseSchedstat(t *testing.T) {
	got, err := parseSchedstat("1234567890 64576 1\n")
	if err != nil || got != 1234567890*time.Nanosecond {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := parseSchedstat("\n"); err == nil {
		t.Error("an empty line is read")
	}
}

func TestParseStat(t *testing.T) {
	const line = "29169 (evict) gate) S 29163 29163 23045 0 -1 4194304 117 0 0 0 250 31 7 8 20 0 1 0 325402"
	got, err := parseStat(line)
	if err != nil || got != 2810*time.Millisecond {
		t.Errorf("got %s, %v; want 281 ticks", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 many 31 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestCPUTimeCountsThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
		_ = fmt.Sprint(start)
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("CPU time went from %s to %s, %v", before, after, err)
	}
	if resident, err := residentBytes(os.Getpid()); err != nil || resident < 1<<20 {
		t.Errorf("resident %.0f bytes, %v", resident, err)
	}
}

func TestParseResident(t *testing.T) {
	got, err := parseResident([]byte("Name:\tevictgate\nVmHWM:\t  200 kB\nVmRSS:\t   64 kB\n"))
	if err != nil || got != 65536 {
		t.Errorf("got %.0f, %v", got, err)
	}
	if _, err := parseResident([]byte("Name:\tkthreadd\n")); err == nil {
		t.Error("no VmRSS is read as a figure")
	}
}

func TestMetricValue(t *testing.T) {
	const text = "# TYPE go_gc_heap_live_bytes gauge\ngo_gc_heap_live_bytes_total 3\ngo_gc_heap_live_bytes 1.5e+06\nanswers{from=\"a\"} 1\nanswers{from=\"b\"} 2\n"
	if got, err := metricValue(strings.NewReader(text), `answers{from="b"}`); err != nil || got != 2 {
		t.Errorf("got %g, %v", got, err)
	}
	got, err := metricValue(strings.NewReader(text), "go_gc_heap_live_bytes")
	if err != nil || got != 1.5e6 {
		t.Errorf("got %g, %v", got, err)
	}
	if _, err := metricValue(strings.NewReader(text), "go_gc"); err == nil {
		t.Error("the beginning of a name is taken for the name")
	}
}

func TestAdmittedWantsNoWarning(t *testing.T) {
	for answer, ok := range map[string]bool{
		`{"response":{"uid":"1","allowed":true}}`:                    true,
		`{"response":{"uid":"1","allowed":false}}`:                   false,
		`{"response":{"uid":"1","allowed":true,"warnings":["why"]}}`: false,
		``: false,
	} {
		if err := admitted([]byte(answer)); (err == nil) != ok {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

func TestSnapshotHasWhatItSays(t *testing.T) {
	s, err := writeSnapshot(t.TempDir(), size{namespaces: 6, deployments: 2, pods: 3, idleBudgets: 1})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	names := map[types.NamespacedName]bool{}
	for _, file := range s.files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Items []struct {
				Kind     string
				Metadata struct{ Namespace, Name string }
			}
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			kinds[item.Kind]++
			if item.Kind == "Pod" {
				names[types.NamespacedName{Namespace: item.Metadata.Namespace, Name: item.Metadata.Name}] = true
			}
		}
	}
	want := map[string]int{"Node": 1, "Namespace": 6, "Deployment": 12, "ReplicaSet": 12, "Pod": 36, "PodDisruptionBudget": 18}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	for _, pod := range s.pods {
		if !names[pod] {
			t.Errorf("the list of pods has %s, the files do not", pod)
		}
	}
	if len(s.files) != 2 || len(names) != 36 {
		t.Errorf("%d files with %d pods of different names, want 2 with 36", len(s.files), len(names))
	}
}

func TestReviewIsAnAdmissionReview(t *testing.T) {
	bodies, err := reviewsOf([]types.NamespacedName{{Namespace: "shop", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	var review admissionv1.AdmissionReview
	decoder := json.NewDecoder(bytes.NewReader(bodies[0]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&review); err != nil {
		t.Fatal(err)
	}
	r := review.Request
	if r.Namespace != "shop" || r.Name != "web" || r.SubResource != "eviction" || r.UID == "" || len(r.UserInfo.Extra) == 0 {
		t.Errorf("unexpected review: %s", bodies[0])
	}
}

func TestEvenly(t *testing.T) {
	if diff := cmp.Diff([]int{0, 2, 4}, evenly([]int{0, 1, 2, 3, 4, 5}, 3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{1}, evenly([]int{1}, 3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTableMarksWhatIsOver(t *testing.T) {
	r := &report{Ratios: []held{
		{What: "a", Protocol: http1, Ratio: spread{1.4, 1.3, 1.6}, Bar: 1.5, OK: true},
		{What: "b", Protocol: http2, Ratio: spread{3, 2, 4}, Bar: 2.5},
	}}
	var out bytes.Buffer
	if err := r.print(&out, "table"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.40 (1.30-1.60)   <= 1.5   ok", "3.00 (2.00-4.00)   <= 2.5   over"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	if r.good() {
		t.Error("a report with a missed bar is good")
	}
	if err := r.print(brokenPipe{}, "table"); err == nil {
		t.Error("a table that cannot be written is not an error")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

var _ io.Writer = brokenPipe{}

func TestAReviewIsNumberedByItsUIDAlone(t *testing.T) {
	body, err := reviewOf(types.NamespacedName{Namespace: "shop", Name: "web-0"})
	if err != nil {
		t.Fatal(err)
	}
	var before, after admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(numbered(nil, body, 0xabc), &after); err != nil {
		t.Fatal(err)
	}
	uid := string(before.Request.UID)
	if want := uid[:24] + "000000000abc"; string(after.Request.UID) != want {
		t.Errorf("got %s, want %s", after.Request.UID, want)
	}
	after.Request.UID = before.Request.UID
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("more was changed:\n%s", diff)
	}
}
