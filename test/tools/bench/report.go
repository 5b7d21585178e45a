package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"text/tabwriter"
)

// report is what was measured. Times are microseconds.
type report struct {
	CPUs            int    `json:"cpus"`
	Go              string `json:"go"`
	Rounds          int    `json:"rounds"`
	Reviews         int    `json:"reviews_per_sample"`
	InFlight        int    `json:"in_flight"`
	LibraryPolicies int    `json:"library_policies"`
	PodBytes        int    `json:"pod_json_bytes"`
	Servers         []line `json:"servers"`
	Ratios          []held `json:"ratios"`
	Heap            *heap  `json:"heap,omitempty"`
}

// line is what one server took, over all rounds.
type line struct {
	Server   string `json:"server"`
	Protocol string `json:"protocol"`
	CPU      spread `json:"cpu_us"`
	P50      spread `json:"p50_us"`
	P99      spread `json:"p99_us"`
	// Remembered is the share of answers that were not evaluated, over both protocols; null without policies.
	Remembered *float64 `json:"remembered"`
}

// held is a ratio beside the bar it is held to; 0 is none.
type held struct {
	What     string  `json:"what"`
	Protocol string  `json:"protocol"`
	Ratio    spread  `json:"ratio"`
	Bar      float64 `json:"bar,omitempty"`
	OK       bool    `json:"ok"`
}

// heap is what a pod more costs in memory, over a snapshot.
type heap struct {
	LivePerPod     float64 `json:"live_bytes_per_pod"`
	ResidentPerPod float64 `json:"resident_bytes_per_pod"`
	Bar            float64 `json:"bar"`
	OK             bool    `json:"ok"`
}

// bars are those of the design. What a store costs is told without a bar.
var bars = []struct {
	what          string
	subject, base string
	figure        func(sample) float64
	bar           float64
}{
	{"CPU, default set / no-op, retries", defaultSet, noop, cpuMicros, 1.5},
	{"CPU, default set / no-op, new pods", defaultSetNew, noop, cpuMicros, 1.5},
	{"CPU, whole library enforcing / no-op, retries", library, noop, cpuMicros, 2.5},
	{"CPU, whole library enforcing / no-op, new pods", libraryNew, noop, cpuMicros, 2.5},
	{"p99, default set / no-op, retries", defaultSet, noop, p99Micros, 2},
	{"p99, default set / no-op, new pods", defaultSetNew, noop, p99Micros, 2},
	{"p99, whole library enforcing / no-op, retries", library, noop, p99Micros, 2},
	{"p99, whole library enforcing / no-op, new pods", libraryNew, noop, p99Micros, 2},
	{"CPU, 1,000 PDBs / 1 PDB in a namespace", manyBudgets, oneBudget, cpuMicros, 1.1},
	{"CPU, 100,000 pods / 1,000 pods", manyPods, thousandPods, cpuMicros, 1.1},
	{"CPU, SQLite store / none, retries", kept, defaultSet, cpuMicros, 0},
	{"CPU, SQLite store and whole inputs / none, retries", keptWhole, defaultSet, cpuMicros, 0},
	{"p99, SQLite store / none, retries", kept, defaultSet, p99Micros, 0},
}

// heapBar is in bytes of live heap for each cached pod.
const heapBar = 4096

func (f *field) report(ctx context.Context) (*report, error) {
	r := &report{
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Rounds: f.options.rounds, Reviews: f.options.reviews,
		InFlight: inFlight, LibraryPolicies: f.policies, PodBytes: f.podBytes,
	}
	for _, s := range f.servers {
		if err := s.complaint(); err != nil {
			return nil, err
		}
		remembered, err := s.remembered(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, protocol := range protocolsOf(s.name) {
			samples := f.samples[arm{s.name, protocol}]
			r.Servers = append(r.Servers, line{
				Server: s.name, Protocol: protocol, CPU: spreadOf(figures(samples, cpuMicros)),
				P50: spreadOf(figures(samples, p50Micros)), P99: spreadOf(figures(samples, p99Micros)),
				Remembered: orNull(remembered),
			})
		}
	}
	for _, b := range bars {
		for _, protocol := range protocolsOf(b.subject) {
			all := ratios(f.samples[arm{b.subject, protocol}], f.samples[arm{b.base, protocol}], b.figure)
			if len(all) == 0 {
				continue
			}
			s := spreadOf(all)
			r.Ratios = append(r.Ratios, held{What: b.what, Protocol: protocol, Ratio: s, Bar: b.bar, OK: b.bar == 0 || s.Median <= b.bar})
		}
	}
	if f.options.large {
		var err error
		if r.Heap, err = f.heap(ctx); err != nil {
			return nil, fmt.Errorf("measure the heap: %w", err)
		}
	}
	return r, nil
}

// heap compares the two servers that differ in pods alone (and in the workloads and budgets of these).
func (f *field) heap(ctx context.Context) (*heap, error) {
	var live, resident, pods []float64
	for _, s := range f.servers {
		if !isLarge(s.name) {
			continue
		}
		l, err := s.liveHeap(ctx)
		if err != nil {
			return nil, err
		}
		r, err := residentBytes(s.pid)
		if err != nil {
			return nil, err
		}
		live, resident, pods = append(live, l), append(resident, r), append(pods, float64(s.pods))
	}
	more := pods[1] - pods[0]
	h := &heap{LivePerPod: (live[1] - live[0]) / more, ResidentPerPod: (resident[1] - resident[0]) / more, Bar: heapBar}
	h.OK = h.LivePerPod <= h.Bar
	return h, nil
}

// good reports whether every bar is kept.
func (r *report) good() bool {
	for _, h := range r.Ratios {
		if !h.OK {
			return false
		}
	}
	return r.Heap == nil || r.Heap.OK
}

func (r *report) print(out io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	fmt.Fprintf(out, "%d rounds of %d reviews each, %d in flight, kept-alive TLS; %d CPUs shared with the load, %s\n\n", r.Rounds, r.Reviews, r.InFlight, r.CPUs, r.Go)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "SERVER\tPROTOCOL\tCPU us/review\tp50 us\tp99 us\tREMEMBERED")
	for _, l := range r.Servers {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Server, l.Protocol, l.CPU.text("%.0f"), l.P50.text("%.0f"), l.P99.text("%.0f"), percent(l.Remembered))
	}
	fmt.Fprintln(table, "\t\t\t\t\t")
	fmt.Fprintln(table, "RATIO\tPROTOCOL\tMEDIAN (min-max)\tBAR\t")
	for _, h := range r.Ratios {
		if h.Bar == 0 {
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t\n", h.What, h.Protocol, h.Ratio.text("%.2f"))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t<= %g\t%s\n", h.What, h.Protocol, h.Ratio.text("%.2f"), h.Bar, mark(h.OK))
	}
	if r.Heap != nil {
		fmt.Fprintf(table, "live heap for each cached pod, snapshot\t\t%.0f B (resident: %.0f B)\t<= %.0f B\t%s\n", r.Heap.LivePerPod, r.Heap.ResidentPerPod, r.Heap.Bar, mark(r.Heap.OK))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, `
Figures are medians over the rounds, with the smallest and the largest; ratios are taken within a round.
The default set has the policies that serve when none are given, the whole library all %d, enforcing; pods
are %d bytes of JSON. Retries are of 200 pods; a new pod is one of 1,500, of a namespace and a workload of its
own, which a policy does not remember when it comes again. REMEMBERED is the share of the policies' answers
that were not evaluated. The load generator runs on the same CPUs, so that p99 is noisy and includes its own
waiting; CPU counts the server's process alone, records and garbage collection included.
`, r.LibraryPolicies, r.PodBytes)
	return err
}

func (s spread) text(verb string) string {
	return fmt.Sprintf(verb+" ("+verb+"-"+verb+")", s.Median, s.Min, s.Max)
}

// orNull is null for what JSON has no number for.
func orNull(f float64) *float64 {
	if math.IsNaN(f) {
		return nil
	}
	return &f
}

func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100**share)
}

func mark(ok bool) string {
	if ok {
		return "ok"
	}
	return "over"
}
