//go:build race

package replay_test

// aWeekHas fewer decisions under the race detector, where each takes ten times as long; make test replays the
// many without it.
const aWeekHas = 1_000
