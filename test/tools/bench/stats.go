package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// spread is the median of some figures, and the smallest and largest of them.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf is not a number when there are no figures.
func spreadOf(figures []float64) spread {
	if len(figures) == 0 {
		return spread{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	return spread{Median: median(figures), Min: slices.Min(figures), Max: slices.Max(figures)}
}

// median of an even number of figures is the mean of the two in the middle.
func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is the smallest latency that at least the share q of all does not exceed; sorted by the caller.
func quantile[T cmp.Ordered](sorted []T, q float64) T {
	if len(sorted) == 0 {
		var none T
		return none
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// ratios divides the samples of one server by those of another, each by the one of its own round, so that
// what else the machine does in that minute falls on both.
func ratios(subject, base []sample, figure func(sample) float64) []float64 {
	list := make([]float64, 0, len(subject))
	for i := range min(len(subject), len(base)) {
		list = append(list, figure(subject[i])/figure(base[i]))
	}
	return list
}

func figures(samples []sample, figure func(sample) float64) []float64 {
	list := make([]float64, len(samples))
	for i, s := range samples {
		list[i] = figure(s)
	}
	return list
}

// sample is one run of reviews against one server.
type sample struct {
	reviews  int
	cpu      time.Duration // of the server's process, for all reviews
	p50, p99 time.Duration // of a review, as the client sees it
}

func cpuMicros(s sample) float64 { return micros(s.cpu) / float64(s.reviews) }
func p50Micros(s sample) float64 { return micros(s.p50) }
func p99Micros(s sample) float64 { return micros(s.p99) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
