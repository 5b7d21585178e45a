package doctor

import "time"

// Span is a duration that is known only to lie between two. The zero value is a duration of nothing.
type Span struct {
	Min, Max time.Duration
	// Known is false when nothing was measured.
	Known bool
}

// ahead is by how much another clock is ahead of ours, when it said a time that is true for up to a resolution
// longer, between two times of ours.
func ahead(said time.Time, resolution time.Duration, sent, received time.Time) Span {
	return Span{Min: said.Sub(received), Max: said.Add(resolution).Sub(sent), Known: true}
}

// and narrows a span by another measurement of the same. When the two exclude each other a clock was set
// meanwhile, and the later one counts.
func (s Span) and(later Span) Span {
	if !s.Known {
		return later
	}
	both := Span{Min: max(s.Min, later.Min), Max: min(s.Max, later.Max), Known: true}
	if both.Min > both.Max {
		return later
	}
	return both
}

// minus is the difference of two.
func (s Span) minus(other Span) Span {
	return Span{Min: s.Min - other.Max, Max: s.Max - other.Min, Known: s.Known && other.Known}
}

// least is the part of the duration that is certain; negative when the clock is behind.
func (s Span) least() time.Duration {
	switch {
	case s.Min > 0:
		return s.Min
	case s.Max < 0:
		return s.Max
	}
	return 0
}
