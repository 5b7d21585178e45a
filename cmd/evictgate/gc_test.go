package main

import "testing"

func TestGarbageCollectionsAreSpaced(t *testing.T) {
	for name, c := range map[string]struct {
		live uint64
		want int
	}{
		"an empty heap":                    {0, 3200},
		"a small cluster":                  {16 << 20, 800},
		"as much as the spacing":           {spacing, 100},
		"a large cluster, as Go's default": {4 << 30, 100},
	} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("%s: GOGC %d, want %d", name, got, c.want)
		}
	}
}
