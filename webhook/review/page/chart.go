package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// chart is a timeline as bars of stacked parts. Its SVG is stretched to the width there is, so all text
// stands beside it.
type chart struct {
	// Width and Height are those of the view box.
	Width, Height int
	Columns       []bar
	// Max is the number at the top of the scale, Half that in its middle.
	Max, Half int
	Ticks     []time.Time
	Span      time.Duration
	Total     int
}

// bar is the decisions of one part of the time.
type bar struct {
	From, Until time.Time
	Title       string
	Total       int
	Parts       []part
	X, Width    int
	Counts      []int
}

// part is one outcome's share of a bar.
type part struct {
	Tone      string
	Y, Height float64
}

const (
	columnWidth = 12
	chartHeight = 100
	ticks       = 4
	// maxColumns bounds what a store might give.
	maxColumns = 2000
)

// timeline makes a chart of the buckets; what no bucket tells is empty.
func timeline(stats store.Stats, name func(time.Time) string) chart {
	buckets := fill(stats)
	c := chart{Width: len(buckets) * columnWidth, Height: chartHeight}
	for _, b := range buckets {
		c.Max = max(c.Max, sum(b.Decisions))
		c.Total += sum(b.Decisions)
	}
	c.Max = ceiling(c.Max)
	c.Half = c.Max / 2
	for i, b := range buckets {
		c.Columns = append(c.Columns, barOf(b, i, c.Max, stats.Step, name))
	}
	if n := len(buckets); n > 0 {
		c.Span = time.Duration(n) * stats.Step
		for i := range ticks {
			c.Ticks = append(c.Ticks, buckets[0].At.Add(c.Span*time.Duration(i)/ticks))
		}
	}
	return c
}

// fill puts empty buckets where there are none.
func fill(stats store.Stats) []store.Bucket {
	if len(stats.Timeline) == 0 || stats.Step <= 0 {
		return nil
	}
	var out []store.Bucket
	for _, b := range stats.Timeline {
		for len(out) > 0 && len(out) < maxColumns && out[len(out)-1].At.Add(stats.Step).Before(b.At) {
			out = append(out, store.Bucket{At: out[len(out)-1].At.Add(stats.Step)})
		}
		out = append(out, b)
	}
	return out[:min(len(out), maxColumns)]
}

func barOf(b store.Bucket, i, top int, step time.Duration, name func(time.Time) string) bar {
	col := bar{From: b.At, Until: b.At.Add(step), Total: sum(b.Decisions), X: i * columnWidth, Width: columnWidth - 2}
	y := float64(chartHeight)
	texts := []string{}
	for _, o := range review.Outcomes {
		n := b.Decisions[o]
		col.Counts = append(col.Counts, n)
		if n == 0 {
			continue
		}
		// What is there is seen: a part is at least one unit high.
		height := max(float64(n)*chartHeight/float64(top), 1)
		height = min(height, y)
		y -= height
		col.Parts = append(col.Parts, part{Tone: outcomeLabel(o).Tone, Y: y, Height: height})
		texts = append(texts, fmt.Sprintf("%d %s", n, o))
	}
	if len(texts) == 0 {
		texts = []string{"no decisions"}
	}
	col.Title = name(b.At) + ": " + strings.Join(texts, ", ")
	return col
}

func sum(counts map[policies.Outcome]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// ceiling is the next round number that can be halved: 2, 4, 10, 20, 40, 100, …
func ceiling(n int) int {
	for unit := 1; ; unit *= 10 {
		for _, m := range []int{2, 4, 10} {
			if n <= m*unit {
				return m * unit
			}
		}
	}
}

// share is a count beside others, as a bar of 100 units.
type share struct {
	Label label
	Count int
	Href  string
	// X and Width place it in the row of all.
	X, Width float64
}

// row places shares one after the other.
func row(shares []share) []share {
	total := 0
	for _, s := range shares {
		total += s.Count
	}
	x := 0.0
	for i := range shares {
		if total > 0 {
			shares[i].Width = float64(shares[i].Count) * 100 / float64(total)
		}
		shares[i].X = x
		x += shares[i].Width
	}
	return shares
}

// column is the width of a bar in a column of counts, of 100 units.
func column(n, greatest int) int {
	if greatest <= 0 || n <= 0 {
		return 0
	}
	return max(n*100/greatest, 1)
}
